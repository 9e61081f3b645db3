"""Validates objects of Kubernetes and of the Prometheus Operator as strictly as an API server.

Reads a list of objects as JSON, and prints a line for each fault: the name of the object, where in
it the fault is, and what is wrong. Knows nothing of what the objects are for.
"""

import json
import sys

import kubernetes_validate
import pydantic
from cloudcoil.models.prometheus_operator import v1, v1alpha1

# The oldest and the newest whose schemas there are.
VERSIONS = ["1.25", "1.37"]

# The kinds of the Operator whose only version is v1alpha1.
ALPHA = ["ScrapeConfig"]


def faults(thing):
    if thing["apiVersion"].startswith("monitoring.coreos.com/"):
        try:
            model = getattr(v1alpha1 if thing["kind"] in ALPHA else v1, thing["kind"])
            model.model_validate(thing, strict=True, extra="forbid")
        except pydantic.ValidationError as error:
            for fault in error.errors():
                yield fault["loc"], fault["msg"]
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as fault:
            yield fault.path, f"{fault.message} ({version})"
        except kubernetes_validate.SchemaNotFoundError as fault:
            yield ["apiVersion"], fault.message


for thing in json.load(sys.stdin):
    for path, message in faults(thing):
        place = ".".join(map(str, path))
        print(f"{thing['metadata']['name']}: {place}: {message}")
