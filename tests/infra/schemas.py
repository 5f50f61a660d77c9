"""KubeRay's schemas, which live outside this repository, made strict.

Their folder is `TRANSDOMAIN_CRDS`, by default `../shared/crds` next to the repository. Kubernetes silently drops what
a schema does not list; here it is an error.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.infra.manifests import Manifest

FOLDER = Path(os.environ.get("TRANSDOMAIN_CRDS", Path(__file__).parents[3] / "shared" / "crds"))
VERSION = "v1.7.0"

needed = pytest.mark.skipif(
    not list(FOLDER.glob(f"*.{VERSION}.yaml")),
    reason=f"no schemas of KubeRay {VERSION} in {FOLDER} (set TRANSDOMAIN_CRDS to their folder)",
)


@functools.cache
def validator(kind: str) -> jsonschema.Draft7Validator:
    """Return the validator of one of KubeRay's kinds."""
    crd = yaml.load((FOLDER / f"ray.io_{kind.lower()}s.{VERSION}.yaml").read_text(), Loader=yaml.CSafeLoader)
    version = next(each for each in crd["spec"]["versions"] if each["name"] == "v1")
    return jsonschema.Draft7Validator(strict(version["schema"]["openAPIV3Schema"]))


def strict(schema: Any) -> Any:
    """Turn an OpenAPI schema of Kubernetes into a JSON schema without room for unknown fields."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: strict(value) for key, value in schema.items() if key not in ("properties", "format", "default")}
    if "properties" in schema:
        properties = schema["properties"]
        made["properties"] = {name: strict(each) for name, each in properties.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
        # The API server fills in a default before it asks what is required.
        made["required"] = [name for name in schema.get("required", []) if "default" not in properties.get(name, {})]
    return made


def errors(manifest: Manifest) -> list[str]:
    """Return the errors that KubeRay's schema finds in `manifest`."""
    found = validator(manifest["kind"]).iter_errors(manifest)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]
