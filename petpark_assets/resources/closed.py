"""Resources that no run can be told otherwise: its config has no section for them, in the launchpad and anywhere else.

Whoever may launch a run could else send Ray's token to a server of their own, or write what another store has into the
ledger. The recipe alone stays open (recipe.py). Not here: which resources there are (definitions.py).
"""

from typing import Any

import dagster as dg
from dagster._core.definitions.definition_config_schema import DefinitionConfigSchema


class NoValues(dg.IOManager):
    """Between steps go records, by the store: Dagster's own would pickle what a step returns, where a run says."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Keep nothing."""

    def load_input(self, context: dg.InputContext) -> object:
        """Raises NotImplementedError: no step takes another's value."""
        raise NotImplementedError("steps read each other's records, and no value goes between them")


def closed(resource: Any) -> dg.ResourceDefinition:
    """A resource as it is, for a run too; its page in the UI shows its fields as before."""
    if isinstance(resource, dg.IOManager):
        return _ClosedIOManager(lambda _context: resource, _SHOWN_ONLY, resource.__doc__)
    if not isinstance(resource, dg.ConfigurableResource):
        return _Closed(lambda _context: resource, _SHOWN_ONLY)
    definition = resource.get_resource_definition()
    return _Closed(lambda _context: resource, _ShownOnly(definition.config_schema.as_field()), definition.description)


class _ShownOnly(DefinitionConfigSchema):
    """Fields of a resource's page. Dagster leaves out of a run's config what has a schema that is false."""

    def __bool__(self) -> bool:
        return False


_SHOWN_ONLY = _ShownOnly(dg.Field({}))


class _Closed(dg.ResourceDefinition):
    @property
    def has_config_field(self) -> bool:
        return False


class _ClosedIOManager(_Closed, dg.IOManagerDefinition):
    pass
