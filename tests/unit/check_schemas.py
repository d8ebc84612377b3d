#!/usr/bin/python3
"""check_schemas.py SCHEMAS: every samples/NAME/valid/*.json fits NAME.schema.json, no invalid one does, none is missing."""
import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator, FormatChecker


def parse(path):
    """The document, or None when it is not JSON at all (as an invalid sample may be)."""
    try:
        return json.loads(path.read_bytes().decode("utf-8"))
    except ValueError:
        return None


def check(schema_path, samples):
    """The faults of one schema and its samples, as lines."""
    schema = json.loads(schema_path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    for kind in ("valid", "invalid"):
        paths = sorted((samples / kind).glob("*.json"))
        if not paths:
            yield f"{samples / kind}: no samples"
        for path in paths:
            document = parse(path)
            error = "not JSON" if document is None else next(validator.iter_errors(document), None)
            if kind == "valid" and error:
                yield f"{path}: {error if isinstance(error, str) else error.message}"
            if kind == "invalid" and not error:
                yield f"{path}: fits {schema_path.name}, but should not"


def main():
    root = Path(sys.argv[1])
    schemas = sorted(root.glob("*.schema.json"))
    faults = [] if schemas else [f"{root}: no schemas"]
    for path in schemas:
        faults += check(path, root / "samples" / path.name.removesuffix(".schema.json"))
    print("\n".join(faults) or f"{len(schemas)} schemas and their samples are right")
    return 1 if faults else 0


sys.exit(main())
