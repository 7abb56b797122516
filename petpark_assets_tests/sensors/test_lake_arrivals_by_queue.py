"""Claims about the sensor on a lake whose bucket tells a queue: as exact as without, whatever becomes of messages.

moto stands for AWS: its S3 sends the events of what is put and deleted to its SQS, as AWS's does.
"""

import contextlib
import json
import random
import uuid

import dagster as dg
import pytest

from petpark_assets.definitions import build_defs
from petpark_assets.domain import files
from petpark_assets.domain.errors import TransientError
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.sources import S3Lake
from petpark_assets.domain.workflow import arrivals, arrivals_by_queue, hints, ingestion, reconciliation
from petpark_assets.resources import lake_queue
from petpark_assets.resources.environments import Environment
from petpark_assets.resources.lake_queue import LakeQueue
from petpark_assets.resources.lake_watch import LakeWatch
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets_tests.domain.lake.test_ingest import photo
from petpark_assets_tests.domain.s3.test_events import S3_EVENT
from petpark_assets_tests.sensors.test_lake_arrivals import (
    SIDE,
    TINY,
    Park,
    asks_for_version,
    is_request,
    pretend_built,
)
from petpark_assets_tests.servers import new_bucket

PREFIX = "my lake"
REST = 26
"""From this step on, of 36, nothing happens any more."""


class BucketPark(Park):
    """The same in a bucket, that tells a queue."""

    def __init__(self, root, server, *, num_photos=3):
        import boto3

        self.root, self.now, self.cursor, self.server = root / "home", 1e9, None, server
        (root / "dagster").mkdir()
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(root / "dagster"))
        self.s3, self.bucket = server.client(), new_bucket(server)
        keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
        self.sqs = boto3.client("sqs", endpoint_url=server.endpoint_url, region_name="us-east-1", **keys)
        self.queue = self.sqs.create_queue(QueueName=self.bucket)["QueueUrl"]
        self.lake = f"s3://{self.bucket}/{PREFIX}"
        self.watch = LakeWatch(lake=self.lake, num_photos=num_photos, queue=self.queue)
        environment = Environment(name="ci", home=self.root, actor="tester", photos=None, ray_address=None)
        self.definitions = build_defs(environment, {"lake_watch": self.watch, "recipe": RunRecipe(**TINY)})
        self.home = open_home(self.root, actor="tester", s3=server.access)

    def notify(self, *, is_on=True):
        """Have the bucket tell the queue, or be silent."""
        arn = f"arn:aws:sqs:us-east-1:123456789012:{self.bucket}"
        told = [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}] if is_on else []
        self.s3.put_bucket_notification_configuration(
            Bucket=self.bucket, NotificationConfiguration={"QueueConfigurations": told}
        )

    def put(self, key, data):
        """An object of the lake."""
        self.s3.put_object(Bucket=self.bucket, Key=f"{PREFIX}/{key}", Body=data)

    def remove(self, key):
        """One less."""
        self.s3.delete_object(Bucket=self.bucket, Key=f"{PREFIX}/{key}")

    def tell(self, key, *, encoded=None, bucket=None, event="ObjectCreated:Put"):
        """A message as S3 writes it, whether true or not."""
        (record,) = json.loads(json.dumps(S3_EVENT))["Records"]
        record["eventName"] = event
        record["s3"]["bucket"]["name"] = bucket or self.bucket
        record["s3"]["object"]["key"] = encoded or f"{PREFIX}/{key}".replace(" ", "+")
        self.say(json.dumps({"Records": [record]}))

    def say(self, body):
        """Any message."""
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)

    def num_messages(self):
        """How many the queue still has."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
        return sum(map(int, found.values()))

    def give_again(self, messages):
        """What was taken and not deleted, as if its time had come."""
        for message in messages:
            with contextlib.suppress(self.sqs.exceptions.ClientError):  # it was deleted
                self.sqs.change_message_visibility(
                    QueueUrl=self.queue, ReceiptHandle=message.receipt, VisibilityTimeout=0
                )

    def counts(self):
        """How many photos a look finds new, changed and removed."""
        look = self.look()
        return look.num_new, look.num_changed, look.num_removed

    def look(self):
        """A look, as a tick makes it."""
        return arrivals_by_queue.look(self.home, self.lake, LakeQueue(self.queue, self.home.s3), self.now)


@pytest.fixture
def park(tmp_path, aws_server, monkeypatch):
    """Twenty photos with v0001 of them, a bucket that tells its queue, and a lake that was listed whole once."""
    monkeypatch.setattr(lake_queue, "WAIT_S", 0)
    for name, value in aws_server.variables().items():
        monkeypatch.setenv(name, value)
    park = BucketPark(tmp_path, aws_server)
    for number in range(20):
        park.put(f"{'cat' if number % 2 else 'dog'}/{number}.png", photo(number))
    park.ingest()
    park.notify()
    assert "has the photos of v0001" in park.tick()
    return park


@pytest.fixture
def unlisted(park, monkeypatch):
    """The same, in which listing the lake fails."""

    def refuse(*_):
        raise AssertionError("the lake was listed")

    monkeypatch.setattr(S3Lake, "list_after", refuse)
    return park


def test_each_told_change_counts_once_and_nothing_is_listed(unlisted):
    """What the queue is for; with S3's own test message, and a key that S3 must encode."""
    unlisted.put("cat/bär 1+1%2B.png", photo(100))
    unlisted.put("dog/0.png", photo(101))
    unlisted.put("cat/1.png", photo(1))  # as it was
    unlisted.put("dog/notes.txt", b"no photo")
    unlisted.remove("cat/3.png")
    assert unlisted.counts() == (1, 1, 1)
    assert unlisted.num_messages() == 0
    assert unlisted.counts() == (1, 1, 1)
    assert asks_for_version(unlisted.ask())


def test_messages_are_hints(unlisted):
    """They come twice, late, and in another order; only what the bucket has now counts."""
    unlisted.put("cat/new.png", photo(100))
    unlisted.put("cat/short.png", photo(101))
    unlisted.remove("cat/short.png")
    for _ in range(3):
        unlisted.tell("cat/new.png")
    unlisted.tell("cat/short.png")  # after its removal
    unlisted.tell("dog/2.png", event="ObjectRemoved:Delete")  # it is there
    unlisted.tell("cat/none.png", event="ObjectRemoved:Delete")  # it never was
    unlisted.tell("cat/.hidden.png")
    unlisted.tell("cat//odd.png")
    unlisted.tell("", encoded="another/cat/1.png")
    unlisted.tell("cat/1.png", bucket="another")
    assert unlisted.counts() == (1, 0, 0)
    assert unlisted.num_messages() == 0


def test_what_no_message_told_is_found_within_a_day(park):
    """Queues lose messages, and nothing may be missed for ever."""
    park.notify(is_on=False)
    for number in range(3):
        park.put(f"cat/silent{number}.png", photo(100 + number))
    assert "has the photos of v0001" in park.tick(hints.LIST_AGAIN_S - 60)
    assert "waiting" in park.tick(60)
    assert asks_for_version(park.tick())


def test_lake_that_is_being_written_is_waited_for(unlisted):
    """Also one that is written again under the same keys."""
    for number in range(6):
        for name in ("a", "b", "c"):
            unlisted.put(f"cat/{name}.png", photo(100 + number) + name.encode())
        assert "look the same twice" in unlisted.tick()
    assert asks_for_version(unlisted.tick())


def test_new_version_is_looked_at_anew(park):
    """An ingestion from a terminal may have seen an object that is as before again, and its message is long gone."""
    park.put("cat/1.png", photo(100))
    assert park.counts() == (0, 1, 0)
    park.ingest()
    park.notify(is_on=False)
    park.put("cat/1.png", photo(1))
    assert park.counts() == (0, 1, 0)


def test_more_than_can_be_kept_is_enough_and_found_by_listing(park, monkeypatch):
    """A million photos at once must neither fill a disk nor be lost; as if 5 keys were all there is room for."""
    monkeypatch.setattr(hints, "MAX_KEYS", 5)
    monkeypatch.setattr(arrivals_by_queue, "LISTED_AT_ONCE", 3)
    park.watch = LakeWatch(lake=park.lake, num_photos=1000, queue=park.queue)
    for number in range(20):
        park.put(f"cat/many{number}.png", photo(100 + number))
    request = park.ask()
    assert len(hints.read(park.home.cache).keys) == 5
    assert park.num_messages() == 0
    assert park.run(request).success
    pretend_built(park.home, "v0002")
    assert "has the photos of v0002" in park.tick()
    assert reconciliation.reconcile(park.home)["offending"] == []


def test_photo_that_must_be_read_for_its_label_is_kept_until_it_is(park, tmp_path, monkeypatch):
    """Labels by sha256 need the bytes, and a tick reads few: the others wait for a later one."""
    monkeypatch.setattr(arrivals, "MAX_READS", 2)
    table = tmp_path / "labels.csv"
    table.write_text("sha256,label\n" + "".join(f"{files.sha256(photo(100 + n))},cat\n" for n in range(5)))
    park.put("cat/more.png", photo(99))  # a version of its own keeps its sources
    ingestion.new_dataset_version(park.home, park.lake, SIDE, labels=["names", str(table)])
    for number in range(5):
        park.put(f"new/{number}.png", photo(100 + number))
    assert park.counts() == (2, 0, 0)
    assert len(hints.read(park.home.cache).keys) == 5


def test_large_lake_is_listed_a_part_in_each_tick(park, monkeypatch):
    """Dagster cuts a tick at 60 s, and a lake of ten millions takes longer to list."""
    monkeypatch.setattr(arrivals_by_queue, "LISTED_AT_ONCE", 6)
    monkeypatch.setattr(arrivals_by_queue, "LIST_FOR_S", 0)
    park.notify(is_on=False)
    park.put("dog/zzz.png", photo(100))
    (park.home.cache / hints.FILE_NAME).unlink()
    looks = [park.look() for _ in range(4)]
    assert [look.num_new for look in looks] == [0, 0, 0, 1]
    assert ["being listed" in look.note for look in looks] == [True, True, True, False]


@pytest.mark.parametrize("trouble", ["missing", "unreachable"])
def test_queue_that_cannot_be_read_is_told_and_replaced_by_listing(park, trouble):
    """Photos go on becoming versions, and a person reads in the tick what to mend."""
    park.notify(is_on=False)
    queue = f"{park.queue}-none" if trouble == "missing" else "http://127.0.0.1:1/123456789012/park"
    park.watch = LakeWatch(lake=park.lake, num_photos=3, queue=queue)
    park.put("cat/one.png", photo(100))
    said = park.tick()
    assert "1 photos new" in said
    assert f"the queue {queue} cannot be re" in said
    assert "the lake is listed meanwhile" in said
    assert len(said.splitlines()) == 1
    park.put("cat/two.png", photo(101))
    park.put("cat/three.png", photo(102))
    assert asks_for_version(park.ask())


def test_queue_that_is_back_is_not_believed_to_have_kept_everything(park):
    """It may have been deleted and made again: what happened meanwhile was told to nobody."""
    good, park.queue = park.queue, f"{park.queue}-none"
    assert "no such queue" in park.look().note
    park.notify(is_on=False)
    park.put("cat/silent.png", photo(100))
    park.queue = good
    assert park.look().note == ""
    assert park.counts() == (1, 0, 0)


def test_message_of_somebody_else_is_left_alone_and_told(unlisted):
    """The queue may be the wrong one: its messages are not ours to delete."""
    unlisted.say("a letter to somebody")
    assert "1 messages" in unlisted.tick()
    assert unlisted.num_messages() == 1


def test_folder_tells_nobody(tmp_path):
    """A queue that is set by mistake must not stop the sensor."""
    park = Park(tmp_path)
    (park.lake / "cat").mkdir(parents=True)
    park.watch = LakeWatch(lake=str(park.lake), queue="https://sqs.eu-central-1.amazonaws.com/1/park")
    assert "it is listed, since no folder tells a queue" in park.tick()


def test_two_looks_at_once_do_not_mix(park):
    """Dagster gives up a tick that takes too long, and begins the next while it goes on."""
    with hints.alone(park.home.cache), pytest.raises(TransientError, match="has not ended"):
        park.look()


class Killed(BaseException):
    """The process ends here."""


def test_tick_killed_anywhere_loses_no_message_and_counts_none_twice(unlisted, monkeypatch):
    """No listing makes it good here: what a message named is on the disk before the message is gone."""
    places = ((LakeQueue, "receive"), (hints, "write"), (LakeQueue, "delete"))
    for number, (place, name) in enumerate(places * 2):
        unlisted.put(f"cat/new{number}.png", photo(100 + number))
        with monkeypatch.context() as patched:
            taken = _note_taken(patched)
            patched.setattr(place, name, _dying(getattr(place, name), is_before=number >= len(places)))
            with pytest.raises(Killed):
                unlisted.look()
        unlisted.give_again(taken)
        assert unlisted.counts() == (number + 1, 0, 0)
        assert unlisted.num_messages() == 0


def _dying(function, *, is_before):
    def die(*arguments):
        if not is_before:
            function(*arguments)
        raise Killed

    return die


def _note_taken(patched):
    """Have the messages that a queue gives noted here."""
    taken, receive = [], LakeQueue.receive

    def receive_and_note(queue):
        taken[:] = receive(queue)
        return list(taken)

    patched.setattr(LakeQueue, "receive", receive_and_note)
    return taken


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 8))])
def test_whatever_becomes_of_ticks_and_messages_the_version_ends_as_the_lake(park, monkeypatch, seed):
    """Ticks die before, between and after keeping and deleting; messages come twice, mixed up, or not at all."""
    chance = random.Random(seed)  # noqa: S311
    park.watch = LakeWatch(lake=park.lake, num_photos=2, wait_h=0.01, queue=park.queue)
    monkeypatch.setattr(hints, "MAX_KEYS", chance.choice((3, 10_000)))
    monkeypatch.setattr(arrivals_by_queue, "LISTED_AT_ONCE", chance.choice((4, 10_000)))
    monkeypatch.setattr(hints, "LIST_AGAIN_S", 180)
    dying = [0.4]
    taken = _let_die(monkeypatch, chance, dying)
    for step in range(36):
        if step == REST:  # rest comes: everything can now be found out
            dying[0] = 0
            park.notify()
        for _ in range(chance.choice((0, 0, 1, 3)) if step < REST else 0):
            park.notify(is_on=chance.random() < 0.8)
            _change(park, chance)
        if chance.random() < 0.1:
            (park.home.cache / hints.FILE_NAME).unlink(missing_ok=True)
        try:
            answer = park.tick(60)
        except Killed:
            park.give_again(taken)
            continue
        if is_request(answer):
            if chance.random() < 0.8 or step >= REST:
                park.run(answer)
                pretend_built(park.home, park.versions[-1])
            else:
                park.pretend_run(answer, dg.DagsterRunStatus.FAILURE)
    assert reconciliation.reconcile(park.home)["offending"] == []
    assert len(park.versions) > 2


def _let_die(monkeypatch, chance, dying):
    """Around what is done to the queue and to the disk, die by chance; the messages that were taken."""
    taken = _note_taken(monkeypatch)

    def around(function):
        def maybe(*arguments):
            if chance.random() < dying[0] / 4:
                raise Killed
            done = function(*arguments)
            if chance.random() < dying[0] / 4:
                raise Killed
            return done

        return maybe

    monkeypatch.setattr(hints, "write", around(hints.write))

    monkeypatch.setattr(LakeQueue, "receive", around(LakeQueue.receive))
    monkeypatch.setattr(LakeQueue, "delete", around(LakeQueue.delete))
    return taken


def _change(park, chance):
    """A photo comes, is rewritten or goes; messages about it, and about others, come again."""
    listed = park.s3.list_objects_v2(Bucket=park.bucket)["Contents"]
    keys = [item["Key"].removeprefix(f"{PREFIX}/") for item in listed]
    key = chance.choice(keys)
    label = key.partition("/")[0]
    match chance.randrange(4):
        case 0 if sum(one.startswith(label) for one in keys) > 6:
            park.remove(key)
        case 1:
            park.put(key, photo(chance.randrange(10**6)))
        case _:
            name = uuid.UUID(int=chance.getrandbits(128))
            park.put(f"{chance.choice(('cat', 'dog'))}/{name}.png", photo(chance.randrange(10**6)))
    if chance.random() < 0.3:
        park.tell(chance.choice(keys))
