"""Claims about infra/cloudformation.yaml, asked of the template deployed into moto and of its policies.

What moto does not make (bucket and queue policies, scaling policies, alarms, the address's association) is asked of the
template itself. Nothing here has been in a real account: infra/README.md says so.
"""

import base64
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from petpark_assets.domain.s3.access import S3Access, parse_place
from petpark_assets.domain.s3.bucket import Bucket
from petpark_assets_tests.infra.machines import MACHINES, SECRET, script_of, start
from petpark_assets_tests.infra.stack import (
    ACCOUNT,
    LAKE,
    NAME,
    OWNER,
    REGION,
    STORE,
    TEMPLATE,
    bucket_policy,
    client,
    deploy,
    is_denied,
    keys_of,
    permissions_checked,
    read_template,
    resolved,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Tried to parse AWS"),  # moto, of what it leaves out
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow"),
]


@pytest.fixture(scope="module")
def cloud(aws_server):
    """A moto with the whole stack in it."""
    deploy(aws_server)
    return aws_server


def lint(path):
    """What cfn-lint finds."""
    command = [Path(sys.executable).with_name("cfn-lint"), path]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_the_template_is_one_that_aws_would_take(tmp_path):
    """By AWS's own schemas in cfn-lint, no warning left; which does find what is wrong."""
    assert lint(TEMPLATE) == ""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TEMPLATE.read_text().replace("PubliclyAccessible", "PubliclyAccesible"))
    assert "PubliclyAccesible" in lint(wrong)


def test_only_the_proxy_has_a_public_address(cloud):
    """No machine is given one, the one that there is goes to the proxy, and no private subnet has a way out or in."""
    ec2 = client(cloud, "ec2")
    machines = [machine for group in ec2.describe_instances()["Reservations"] for machine in group["Instances"]]
    assert len(machines) >= 3
    assert [machine["InstanceId"] for machine in machines if machine.get("PublicIpAddress")] == []
    template = read_template()["Resources"]
    assert [name for name, made in template.items() if made["Type"] == "AWS::EC2::EIP"] == ["ProxyAddress"]
    assert template["ProxyAddressAssociation"]["Properties"]["InstanceId"] == {"Ref": "Proxy"}
    assert not any("NatGateway" in made["Type"] or "LoadBalanc" in made["Type"] for made in template.values())
    outside = {
        name for name, made in template.items()
        if made["Type"] == "AWS::EC2::SubnetRouteTableAssociation"
        and made["Properties"]["RouteTableId"] == {"Ref": "PublicRoutes"}
    }  # fmt: skip
    assert outside == {"PublicSubnetRoutes"}
    in_public = {
        name for name, made in template.items() if made.get("Properties", {}).get("SubnetId") == {"Ref": "PublicSubnet"}
    }
    assert in_public == {"PublicSubnetRoutes", "Proxy"}


def test_nobody_outside_reaches_anything_but_the_proxys_one_port(cloud):
    """Whatever listens on a private machine, no rule lets an address of outside to it."""
    open_to = {
        (group["GroupName"].split("-")[1], rule["FromPort"], rule["ToPort"], addresses["CidrIp"])
        for group in client(cloud, "ec2").describe_security_groups()["SecurityGroups"]
        if group["GroupName"].startswith(f"{NAME}-")
        for rule in group["IpPermissions"]
        for addresses in rule["IpRanges"]
    }
    assert open_to == {("ProxyAccess", 443, 443, "203.0.113.0/24"), ("EndpointAccess", 443, 443, "10.20.0.0/16")}


def test_nodes_of_gpus_reach_rays_ports_on_the_platforms_machine_and_no_other():
    """The reports, Dagster's code server and its webservers have no login there; MLflow is for the head alone."""
    template = read_template()["Resources"]
    theirs = template["GpuTemplate"]["Properties"]["LaunchTemplateData"]["SecurityGroupIds"]
    rules = [
        (group, rule)
        for name, made in template.items()
        for group, rule in (
            [({"Ref": name}, rule) for rule in made["Properties"].get("SecurityGroupIngress", [])]
            if made["Type"] == "AWS::EC2::SecurityGroup"
            else [(made["Properties"]["GroupId"], made["Properties"])]
            if made["Type"] == "AWS::EC2::SecurityGroupIngress"
            else []
        )
    ]
    open_to_them = {
        (rule["FromPort"], rule["ToPort"])
        for group, rule in rules
        if group in template["Platform"]["Properties"]["SecurityGroupIds"]
        and (rule.get("SourceSecurityGroupId") in theirs or "CidrIp" in rule)
    }
    assert open_to_them == {(6379, 6384), (8265, 8265), (10002, 10999)}
    closed = {3000, 3001, 3002, 4000, 5000}
    assert not any(first <= port <= last for first, last in open_to_them for port in closed)


@pytest.mark.parametrize("name", ["AllowedCidr", "LakeOwnerArn"])
def test_who_may_come_in_is_nobodys_default(name):
    """A default would be what most deployments have."""
    assert "Default" not in read_template()["Parameters"][name]


def test_the_database_is_private_encrypted_and_kept(cloud):
    """It knows all runs; its password is in no template, and no deletion of the stack takes it away."""
    (database,) = client(cloud, "rds").describe_db_instances()["DBInstances"]
    asked = ("StorageEncrypted", "PubliclyAccessible", "MultiAZ", "BackupRetentionPeriod")
    assert [database[name] for name in asked] == [True, False, True, 14]
    made = read_template()["Resources"]["Database"]
    assert made["DeletionPolicy"] == made["UpdateReplacePolicy"] == "Snapshot"
    assert "resolve:secretsmanager" in made["Properties"]["MasterUserPassword"]["Fn::Sub"]


@pytest.mark.parametrize("bucket", [LAKE, STORE])
def test_buckets_keep_versions_are_private_and_forget_unfinished_uploads(cloud, bucket):
    """A photo deleted by mistake comes back for 30 days; half an upload is paid for no longer than three."""
    s3 = client(cloud, "s3")
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert [rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] for rule in rules[:1]] == [3]
    assert [rule["NoncurrentVersionExpiration"]["NoncurrentDays"] for rule in rules[1:]] == [30]
    assert "Expiration" not in rules[0]  # nothing that is there is ever taken away


@pytest.mark.parametrize("resource", ["Lake", "Store"])
def test_deleting_the_stack_deletes_no_photo(resource):
    """A stack is taken down more easily than it is meant."""
    made = read_template()["Resources"][resource]
    assert made["DeletionPolicy"] == made["UpdateReplacePolicy"] == "Retain"


def test_every_change_of_the_lake_is_told_to_the_queue(cloud):
    """And only the lake may tell it: a message that anybody could send would make versions."""
    s3, queues = client(cloud, "s3"), client(cloud, "sqs")
    url = queues.get_queue_url(QueueName=f"{NAME}-lake")["QueueUrl"]
    queues.purge_queue(QueueUrl=url)
    put = s3.put_object(Bucket=LAKE, Key="cat/1.jpg", Body=b"meow")
    s3.delete_object(Bucket=LAKE, Key="cat/1.jpg", VersionId=put["VersionId"])  # of a marker moto tells nothing
    bodies = [
        message["Body"] for message in queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    ]
    told_of = sorted(re.findall(r'"eventName": ?"(ObjectCreated|ObjectRemoved)', "".join(bodies)))
    assert told_of == ["ObjectCreated", "ObjectRemoved"]
    told = resolved(read_template()["Resources"]["LakeQueuePolicy"]["Properties"]["PolicyDocument"])["Statement"]
    assert [(rule["Effect"], rule["Principal"], rule["Action"]) for rule in told] == [
        ("Allow", {"Service": "s3.amazonaws.com"}, "sqs:SendMessage")
    ]
    assert told[0]["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{LAKE}"}, "StringEquals": {"aws:SourceAccount": ACCOUNT},
    }  # fmt: skip


def test_roles_may_do_what_they_must_and_no_more(cloud):
    """By the roles' own policies, asked as the roles: the lake is only read, and a node deletes nothing."""
    admin = client(cloud, "s3")
    for bucket in (LAKE, STORE):
        admin.put_object(Bucket=bucket, Key="cat/1.jpg", Body=b"meow")
    roles = {name: keys_of(cloud, name) for name in ("PlatformRole", "GpuRole", "ProxyRole")}
    with permissions_checked():
        s3 = {name: client(cloud, "s3", **keys) for name, keys in roles.items()}
        for name in ("PlatformRole", "GpuRole"):
            assert s3[name].get_object(Bucket=LAKE, Key="cat/1.jpg")["Body"].read() == b"meow"
            s3[name].put_object(Bucket=STORE, Key=f"records/{name}", Body=b"{}")
            refused(s3[name].put_object, Bucket=LAKE, Key="cat/2.jpg", Body=b"")
            refused(s3[name].delete_object, Bucket=LAKE, Key="cat/1.jpg")
            refused(client(cloud, "iam", **roles[name]).create_user, UserName="x")
            refused(client(cloud, "ec2", **roles[name]).run_instances, MinCount=1, MaxCount=1, ImageId="ami-1")
        refused(s3["GpuRole"].delete_object, Bucket=STORE, Key="cat/1.jpg")
        s3["PlatformRole"].delete_object(Bucket=STORE, Key="cat/1.jpg")
        refused(s3["ProxyRole"].get_object, Bucket=LAKE, Key="cat/1.jpg")
        refused(s3["ProxyRole"].list_objects_v2, Bucket=STORE)


def test_the_platform_reads_the_lake_by_its_role(cloud):
    """The very calls that ingestion and forgetting make are among those that its role may make."""
    client(cloud, "s3").put_object(Bucket=LAKE, Key="dog/1.jpg", Body=b"woof")
    keys = keys_of(cloud, "PlatformRole")
    access = S3Access(
        endpoint_url=cloud.endpoint_url,
        region=REGION,
        access_key_id=keys["aws_access_key_id"],
        secret_access_key=keys["aws_secret_access_key"],
        session_token=keys["aws_session_token"],
    )
    lake = Bucket(place=parse_place(f"s3://{LAKE}", "lake"), access=access)
    store = Bucket(place=parse_place(f"s3://{STORE}/petpark", "store"), access=access)
    with permissions_checked():
        lake.check()
        assert "dog/1.jpg" in {item.key for item in lake.list_objects()}
        assert lake.read("dog/1.jpg") == b"woof"
        assert store.create("records/1", b"{}")
        assert store.read("records/1") == b"{}"
        store.check_deletable()
        store.delete("records/1")
    assert "Versions" not in client(cloud, "s3").list_object_versions(Bucket=STORE, Prefix="petpark/")


def test_backups_go_where_their_owner_says_and_nowhere_by_default():
    """The same actions as for the store, on that one bucket; without its name there is no such right."""
    template = read_template()
    made, role = template["Resources"]["BackupPolicy"], template["Resources"]["PlatformRole"]["Properties"]
    assert made["Condition"] == "HasBackups"
    assert template["Conditions"]["HasBackups"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "BackupBucket"}, ""]}]}
    rules = made["Properties"]["PolicyDocument"]["Statement"]
    of_store = {rule["Sid"]: set(rule["Action"]) for rule in role["Policies"][0]["PolicyDocument"]["Statement"]}
    assert set(rules[0]["Action"]) <= of_store["KnowsTheStore"]
    assert set(rules[1]["Action"]) == of_store["KeepsTheStore"]
    assert [rule["Resource"]["Fn::Sub"].partition("${BackupBucket}")[2] for rule in rules] == ["", "/*"]


def refused(call, **asked):
    """The server says that this role may not."""
    with pytest.raises(ClientError) as caught:
        call(**asked)
    assert caught.value.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


CHANGES_PHOTOS = ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObjectAcl")
CHANGES_THE_LAKE = (
    "s3:DeleteBucket", "s3:PutLifecycleConfiguration", "s3:PutBucketVersioning", "s3:PutReplicationConfiguration",
    "s3:PutBucketObjectLockConfiguration", "s3:PutEncryptionConfiguration",
)  # fmt: skip
"""A rule that every photo expires, or no old versions any more: as good as a deletion."""


@pytest.mark.parametrize(
    ("action", "changed"),
    [
        *((action, f"arn:aws:s3:::{LAKE}/cat/1.jpg") for action in CHANGES_PHOTOS),
        *((action, f"arn:aws:s3:::{LAKE}") for action in CHANGES_THE_LAKE),
    ],
)
def test_nobody_but_its_owner_changes_the_lake(action, changed):
    """Not even an administrator, whose role allows everything: a deny of the bucket comes first."""
    policy, photo = bucket_policy("LakePolicy"), f"arn:aws:s3:::{LAKE}/cat/1.jpg"
    for who, is_refused in (
        (OWNER, False),
        (f"arn:aws:iam::{ACCOUNT}:role/Admin", True),
        ("arn:aws:iam::1:root", True),
    ):
        context = {"aws:PrincipalArn": who, "aws:SecureTransport": "true"}
        assert is_denied(policy, action=action, resource=changed, context=context) is is_refused
        assert not is_denied(policy, action="s3:GetObject", resource=photo, context=context)


@pytest.mark.parametrize(("resource", "bucket"), [("LakePolicy", LAKE), ("StorePolicy", STORE)])
def test_nothing_travels_in_the_clear(resource, bucket):
    """Keys of requests and photos alike."""
    context = {"aws:PrincipalArn": OWNER, "aws:SecureTransport": "false"}
    photo = f"arn:aws:s3:::{bucket}/cat/1.jpg"
    assert is_denied(bucket_policy(resource), action="s3:GetObject", resource=photo, context=context)


def rules_of_roles():
    """The actions and the resource of every statement of every role; a policy of another kind would be missed here."""
    parts = [part for part in read_template()["Resources"].values() if part["Type"].startswith("AWS::IAM::")]
    kinds = [part["Type"].rpartition("::")[2] for part in parts]
    assert {kind: kinds.count(kind) for kind in kinds} == {"Role": 3, "Policy": 2, "InstanceProfile": 3}
    assert not any("ManagedPolicyArns" in part["Properties"] for part in parts)
    policies = [policy for part in parts for policy in part["Properties"].get("Policies", [part["Properties"]])]
    statements = [rule for policy in policies for rule in policy.get("PolicyDocument", {}).get("Statement", [])]
    for rule in statements:
        yield {rule["Action"]} if isinstance(rule["Action"], str) else set(rule["Action"]), rule["Resource"]


def test_no_role_has_a_star():
    """Every action is named, and its resource too where AWS knows one."""
    without_resource = {"ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"}
    for actions, resource in rules_of_roles():
        assert not any("*" in action for action in actions)
        assert resource != "*" or actions <= without_resource


def test_no_role_makes_a_role_or_starts_a_machine():
    """Nor grows the group, nor has another service do it: roles may ask the services that their work needs."""
    services = {action.partition(":")[0].lower() for actions, _ in rules_of_roles() for action in actions}
    assert services == {"s3", "sqs", "secretsmanager", "cloudwatch", "ecr"}


def test_gpus_grow_with_the_work_and_go_only_when_all_are_idle(cloud):
    """Taking a machine away while another of the group is idle could end a trial: none goes before all are idle."""
    (group,) = client(cloud, "autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["MinSize"], group["MaxSize"]) == (1, 4)
    made = {name: part["Properties"] for name, part in read_template()["Resources"].items() if "Properties" in part}
    assert made["GpusWanted"]["AlarmActions"] == [{"Ref": "MoreGpus"}]
    assert made["MoreGpus"]["StepAdjustments"][0]["ScalingAdjustment"] == 1
    assert made["GpusIdle"]["AlarmActions"] == [{"Ref": "FewerGpus"}]
    assert made["GpusIdle"]["MetricName"] == "GpusInDemand"
    assert (made["GpusIdle"]["ComparisonOperator"], made["GpusIdle"]["Threshold"]) == ("LessThanOrEqualToThreshold", 0)


def test_machines_start_by_scripts_that_are_bash_and_hold_no_secret(cloud, tmp_path):
    """Whoever may describe a machine reads its script: secrets are fetched by it, not written in it."""
    ec2, scripts = client(cloud, "ec2"), []
    for group in ec2.describe_instances()["Reservations"]:
        for machine in group["Instances"]:
            answer = ec2.describe_instance_attribute(InstanceId=machine["InstanceId"], Attribute="userData")
            if answer["UserData"].get("Value"):
                scripts.append(base64.b64decode(answer["UserData"]["Value"]).decode())
    assert len(scripts) >= 2
    for script in scripts:
        path = tmp_path / "script"
        path.write_text(script)
        assert subprocess.run(["bash", "-n", path], check=False, capture_output=True).stderr == b""
        assert "get-secret-value" in script
        assert "set -euo pipefail" in script
        unknown = {"${DatabasePassword}", "${RayToken}", "${ProxySecret}"}  # moto makes no secrets
        assert set(re.findall(r"\$\{[^}]+\}", script)) <= unknown  # every name was filled in


@pytest.mark.parametrize("machine", MACHINES)
def test_no_secret_is_in_a_containers_variables(machine, tmp_path):
    """Who may ask Docker what a container is has them otherwise: secrets are files that its user alone can read."""
    started = start(script_of(machine), tmp_path)
    made = hashlib.sha256(f"platform:{SECRET}".encode()).hexdigest()  # the password of the three roles
    assert re.search(r"^docker (run|compose) ", started.told, re.MULTILINE)
    assert (SECRET in started.told, made in started.told) == (False, False)
    held = {path: file for path, file in started.files.items() if SECRET in file.text or made in file.text}
    assert {(file.owner, file.mode & 0o077) for file in held.values()} == {("10001:10001", 0)}
    named = {value for name, value in started.variables().items() if re.search("(SECRET|TOKEN)_(FILE|PATH)$", name)}
    assert named <= held.keys() | {"/etc/petpark/client_secret"}  # brought by the proxy's image


@pytest.mark.parametrize("machine", ["GpuTemplate", "Proxy"])
@pytest.mark.parametrize("wrong", ['--env "OF_RAY=$token" --read-only', "--env-file <(echo OF_RAY=$token) --read-only"])
def test_a_secret_in_a_containers_variables_is_seen(machine, wrong, tmp_path):
    """A check that finds nothing anywhere shows nothing."""
    started = start(script_of(machine).replace("--read-only", wrong), tmp_path)
    assert started.variables()["OF_RAY"] == SECRET


def test_machines_wait_for_the_image_that_they_start():
    """The stack makes the registry, so at the first start it is empty; a script that fails is not run again."""
    scripts = re.findall(r"#!/bin/bash\n(.+?)- Registry:", TEMPLATE.read_text(), re.DOTALL)
    assert len(scripts) == 3
    for script in scripts:
        waits = re.search(
            r"until aws ecr .+ \\\n +&& docker pull (\S+); do sleep 30; done\n +docker (run|compose)", script
        )
        assert script.count("docker login") == 1
        assert waits[2] == "compose" or script.count(waits[1]) == 2


def test_no_machine_goes_on_without_a_secret_that_it_was_not_given():
    """A failure among another command's words stops no script: only what stands alone in its line does."""
    for script in re.findall(r"#!/bin/bash\n(.+?)- Registry:", TEMPLATE.read_text(), re.DOTALL):
        fetching = [line.strip() for line in script.splitlines() if "secret " in line or "get-secret-value" in line]
        assert fetching
        assert not [line for line in fetching if re.match(r"(\{ )?(echo|printf|export)\b.*\$\((secret|aws)", line)]
    assert "SecretsEndpoint" in read_template()["Resources"]["GpuGroup"]["DependsOn"]


def test_keys_of_a_machine_are_not_given_to_who_asks_once():
    """A program on the machine that can be made to fetch an address must not get the role's keys by it (IMDSv2)."""
    made = read_template()["Resources"]
    found = [part["Properties"] for part in made.values() if part["Type"] == "AWS::EC2::Instance"]
    found.append(made["GpuTemplate"]["Properties"]["LaunchTemplateData"])
    assert [machine["MetadataOptions"]["HttpTokens"] for machine in found] == ["required"] * 3
