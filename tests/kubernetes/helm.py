"""Does for a chart what Helm does without a cluster, with the library that Helm itself is made of.

`helm.py template CHART RELEASE NAMESPACE` prints the objects as JSON, and what a user is shown after an installation;
`helm.py lint CHART` prints a line for each finding. Values are YAML on standard input.
"""

import json
import sys

import helm_python
import yaml


def template(path, release, namespace, values):
    with helm_python.Chart.load(path) as chart:
        files = chart.render(values, name=release, namespace=namespace)
    notes = [text for file, text in files.items() if file.endswith("NOTES.txt")]
    objects = [
        thing
        for file, text in sorted(files.items())
        if file.endswith(".yaml")
        for thing in yaml.safe_load_all(text)
        if thing
    ]
    print(json.dumps({"objects": objects, "notes": "".join(notes)}))


def lint(path, values):
    for message in helm_python.lint(path, values, strict=True)["messages"]:
        print(f"{message['path']}: {message['error']}")


command, *arguments = sys.argv[1:]
try:
    {"template": template, "lint": lint}[command](*arguments, yaml.safe_load(sys.stdin))
except helm_python.HelmError as error:
    sys.exit(str(error))
