"""A version's standard metadata: Croissant 1.1 JSON-LD beside the manifest, so that any loader of datasets can read it.

It describes the manifest's columns, the two sides, and in PROV-O's terms where the version comes from. Record sets:
`photos` (every object seen), `train` and `test` (the accepted photos of a side), `splits` and `labels` (their names).
Photos are not distributed with it: they are named by sha256 and key. Nothing here reads a clock: the same record,
manifest and day give the same bytes.
The format: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from collections.abc import Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from petpark_assets.domain import files
from petpark_assets.domain.images import QUARANTINE_REASONS
from petpark_assets.domain.records import LABELS, RawImages

SPECIFICATION = "http://mlcommons.org/croissant/1.1"
FILE_NAME = "croissant.json"
"""Beside `manifest.parquet`, which it names by a relative address: the two can be copied anywhere together."""
MANIFEST = "manifest.parquet"

SIDES = ("train", "test")

FIELDS: Mapping[str, str] = MappingProxyType({
    "key": "Where the photo lies in the lake: its path below the lake's folder or prefix.",
    "size_bytes": "Size of the file.",
    "sha256": "Of the file's bytes, lower-case hexadecimal; empty where they could not be read.",
    "label": "The class that the winning source of labels says.",
    "label_source": "The source that won.",
    "claims": "What each source said, in their order of rank.",
    "first_version": "The dataset version that first read these bytes.",
    "format": "JPEG, PNG, GIF, WEBP, BMP or TIFF; empty where the photo could not be decoded.",
    "width_px": "Width of the upright picture.",
    "height_px": "Height of the upright picture.",
    "mode": "Pillow's name of the colours as stored.",
    "capture_time": "When the photo was taken, by its EXIF data, which know no time zone.",
    "perceptual_hash": "16 hexadecimal digits, of which copies of one photo share nearly all bits.",
    "brightness": "Mean luminance, 0 to 1.",
    "sharpness": "Standard deviation of the luminance's Laplacian, 0 to 4.",
    "group": "Near-duplicates share a group, and a group is never on both sides.",
    "split": "The side: train or test; empty unless the photo is accepted.",
    "state": "accepted, duplicate or quarantined.",
    "reason": f"Why it is quarantined: {', '.join(QUARANTINE_REASONS)}.",
    "detail": "For people: more about the reason, or which photo it is a duplicate of.",
})  # fmt: skip
"""The manifest's columns that are described; those for machines only (signature, channel statistics) are left out."""

_OF_STATE = ("state", "reason", "detail")
"""Columns that say nothing of an accepted photo."""

_CONTEXT: Mapping[str, Any] = MappingProxyType({
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
})  # fmt: skip
"""The specification's own context (its appendix 1), and PROV-O."""


def croissant(record: RawImages, manifest: bytes, *, published: date | None = None) -> bytes:
    """The JSON-LD of one version, UTF-8.

    Args:
        record: of the version.
        manifest: its Parquet bytes; a described column that they do not have is left out.
        published: the day on which the version was made, UTC, as noted beside its record: the specification asks for
            one, and mlcroissant warns where there is none.
    """
    schema = pq.read_schema(files.arrow_reader(manifest))
    document = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        **_identity(record),
        "conformsTo": SPECIFICATION,
        "license": "none granted: the photos belong to the pet park",
        "creator": {"@type": "sc:Organization", "name": "Pet park"},
        "keywords": ["image classification", *LABELS],
        "distribution": [_manifest_file(record, len(manifest))],
        "recordSet": [_photos(schema), *(part for side in SIDES for part in _side(side, schema)), _splits(), _labels()],
    }
    if published is not None:
        document["datePublished"] = published.isoformat()
    if record.previous_manifest is not None:
        document["prov:wasDerivedFrom"] = {"@id": _address(record.previous_manifest)}
    return files.canonical_json(document)


def _identity(record: RawImages) -> dict[str, Any]:
    """Names by which a version is found again, all of them its manifest's digest in the end."""
    version = record.dataset_version
    digests = {"manifest sha256": record.manifest, "raw_images record sha256": files.digest(record)}
    return {
        "@id": _address(record.manifest),
        "url": _address(record.manifest),
        "name": f"pet-park-photos-{version}",
        "version": f"{int(version[1:])}.0.0",  # photos may leave and labels change: a major step in Croissant's terms
        "description": _description(record),
        "citeAs": f"Pet park photos, dataset version {version}, manifest sha256 {record.manifest}",
        "identifier": [
            {"@type": "sc:PropertyValue", "propertyID": name, "value": value} for name, value in digests.items()
        ],
    }


def _description(record: RawImages) -> str:
    seen = ", ".join(f"{record.images[state]} {state}" for state in ("accepted", "duplicate", "quarantined"))
    by_label = " and ".join(f"{number} of {label}s" for label, number in record.accepted_by_label.items())
    return (
        f"Version {record.dataset_version} of the pet park's lake of photos: {record.images['seen']} seen, {seen}; "
        f"accepted are {by_label}. The unit of the split into train and test is the group of near-duplicates, and a "
        "photo never changes sides in any version. Photos are named by sha256; they are not distributed."
    )


def _photos(schema: pa.Schema) -> dict[str, Any]:
    described = [name for name in FIELDS if name in schema.names]
    return {
        "@type": "cr:RecordSet",
        "@id": "photos",
        "name": "photos",
        "description": "Every object seen; those with a split are the accepted photos.",
        "key": {"@id": "photos/key"},
        "field": [_field("photos", name, schema.field(name).type) for name in described],
    }


def _side(side: str, schema: pa.Schema) -> list[dict[str, Any]]:
    """A side as a record set of its own, and the one name that it is joined to.

    Croissant has no selection of rows, and mlcroissant 1.1 filters files only (by their names). But its joins keep the
    rows of the left side: one row that says `train`, joined to the manifest's column, selects the train side.
    """
    name = f"{side}_side"
    split = {
        "@type": "cr:Field",
        "@id": f"{side}/split",
        "name": "split",
        "description": FIELDS["split"],
        "dataType": "sc:Text",
        "source": {"field": {"@id": f"{name}/name"}},
        "references": {"fileObject": {"@id": "manifest"}, "extract": {"column": "split"}},
    }
    described = [field for field in FIELDS if field in schema.names and field not in ("split", *_OF_STATE)]
    return [
        _enumeration(name, f"The one row to which the {side} side is joined.", [{"name": side}]),
        {
            "@type": "cr:RecordSet",
            "@id": side,
            "name": side,
            "description": f"The accepted photos of the {side} side.",
            "key": {"@id": f"{side}/key"},
            "field": [split, *(_field(side, field, schema.field(field).type) for field in described)],
        },
    ]


def _field(record_set: str, name: str, column: pa.DataType) -> dict[str, Any]:
    is_array = pa.types.is_list(column)
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "description": FIELDS[name],
        "dataType": _data_type(column.value_type if is_array else column),
        "source": {"fileObject": {"@id": "manifest"}, "extract": {"column": name}},
    }
    if is_array:
        field |= {"isArray": True, "arrayShape": "-1"}
    if name == "split":
        field["references"] = {"field": {"@id": "splits/name"}}
    if name == "label":
        field["dataType"] = [field["dataType"], "cr:Label"]
    return field


def _data_type(column: pa.DataType) -> str:
    if pa.types.is_integer(column):
        return "sc:Integer"
    if pa.types.is_floating(column):
        return "sc:Float"
    return "sc:DateTime" if pa.types.is_timestamp(column) else "sc:Text"


def _splits() -> dict[str, Any]:
    """The two sides as Croissant knows them."""
    meanings = {"train": "cr:TrainingSplit", "test": "cr:TestSplit"}
    rows = [{"name": side, "url": meanings[side]} for side in SIDES]
    return _enumeration("splits", "The two sides of the exam.", rows, data_type="cr:Split")


def _labels() -> dict[str, Any]:
    rows = [{"name": label} for label in LABELS]
    return _enumeration("labels", "The classes, in the order of the network's outputs.", rows)


def _enumeration(
    name: str, description: str, rows: Sequence[Mapping[str, str]], data_type: str = "sc:Enumeration"
) -> dict[str, Any]:
    """A record set whose few rows stand in the document; each has a name."""
    types: dict[str, Any] = {"name": "sc:Text", "url": ["sc:URL", data_type]}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "dataType": data_type,
        "key": {"@id": f"{name}/name"},
        "field": [
            {"@type": "cr:Field", "@id": f"{name}/{field}", "name": field, "dataType": types[field]}
            for field in rows[0]
        ],
        "data": [{f"{name}/{field}": value for field, value in row.items()} for row in rows],
    }


def _manifest_file(record: RawImages, size_bytes: int) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": "manifest",
        "name": MANIFEST,
        "description": "One row for each object seen in the lake.",
        "contentUrl": MANIFEST,
        "contentSize": f"{size_bytes} B",
        "encodingFormat": "application/x-parquet",
        "sha256": record.manifest,
    }


def _address(digest: str) -> str:
    return f"hash://sha256/{digest}"
