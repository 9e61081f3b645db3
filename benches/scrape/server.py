"""Serves the series of a page of metrics, each as a gauge, as an exporter in Python would."""

import re
import sys

from prometheus_client import CollectorRegistry, Gauge, start_http_server

LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

page, port = sys.argv[1:]
registry = CollectorRegistry()
gauges = {}
with open(page, encoding="utf-8", newline="\n") as lines:
    for line in lines:
        if line.startswith("#"):
            continue
        series, value = line.rstrip("\n").rsplit(" ", 1)
        name, _, labels = series.partition("{")
        labels = dict(LABEL.findall(labels))
        if name not in gauges:
            gauges[name] = Gauge(name, "A metric of the page.", list(labels), registry=registry)
        gauge = gauges[name].labels(**labels) if labels else gauges[name]
        gauge.set(float(value))
_, thread = start_http_server(int(port), "127.0.0.1", registry)
thread.join()
