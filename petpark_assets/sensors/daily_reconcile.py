"""Once a day the lake and the newest version are compared object by object, whatever the sensors saw.

Not here: the comparison (domain/workflow/reconciliation.py).
"""

import dagster as dg

from petpark_assets.jobs import reconcile_lake

daily_reconcile = dg.ScheduleDefinition(
    name="daily_reconcile",
    job=reconcile_lake,
    cron_schedule="30 4 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="At 4:30 UTC: does the newest version have each photo of the lake, and each once? A run that fails "
    "names what differs. Photos that wait for the next version differ too.",
)
