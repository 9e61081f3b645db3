//! The chart for Helm: whether it renders what `deploy/kubernetes` has, and what its values change.
//!
//! Has no cluster: Helm itself, as a library, renders the objects. `kubernetes` knows what they must be.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{assert_fresh, root, with_parts};
use crate::kubernetes::{self, Objects, faults, list, name, read_yaml, text};

const CHART: &str = "deploy/helm/wxapp-portrait-exporter";

/// The release and the namespace that give all objects the names that they have in `deploy/kubernetes`.
const RELEASE: [&str; 2] = ["wxapp-portrait-exporter", "wxapp-portrait"];

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// Returns the default values.
pub(crate) fn values() -> Value {
    read_yaml(&read(&format!("{CHART}/values.yaml")))
}

/// Returns values with the apps of `deploy/kubernetes`.
fn with_apps(mut values: Value) -> Value {
    let config = read_yaml(&read("deploy/kubernetes/wxapp-portrait.yml"));
    values["config"]["apps"] = config["apps"].clone();
    values
}

/// Returns what is applied, and what is shown then.
fn rendered(values: &Value, [release, namespace]: [&str; 2]) -> Result<(Objects, String), String> {
    let output = kubernetes::python(&["helm.py", "template", CHART, release, namespace], values);
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let mut rendered: Value = serde_json::from_slice(&output.stdout).unwrap();
    let objects = serde_json::from_value(rendered["objects"].take()).unwrap();
    Ok((Objects(objects), text(&rendered["notes"]).to_owned()))
}

fn objects(values: Value) -> Objects {
    rendered(&with_apps(values), RELEASE).unwrap().0
}

/// Returns those of the default values, of shards, and of replicas.
fn variants() -> [Objects; 3] {
    [
        json!({}),
        json!({"shards": 3}),
        json!({"postgresql": {"enabled": true}}),
    ]
    .map(objects)
}

/// Returns values that set everything that can be set together with these.
fn everything(values: &Value) -> Value {
    let mut all = json!({
        "image": {"digest": format!("sha256:{}", "0a".repeat(32)), "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "fullnameOverride": "portraits",
        "commonLabels": {"release": "kube-prometheus-stack"},
        "commonAnnotations": {"owner": "ops"},
        "podLabels": {"tier": "monitoring"},
        "podAnnotations": {"note": "1"},
        "extraFiles": {"2027.json": "{\"year\": 2027}\n"},
        "secrets": ["shop", "postgres"],
        "web": {"secrets": ["web", "web-tls"], "routePrefix": "/wx/"},
        "extraArgs": ["--log.format=json"],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.internal:3128"}],
        "extraVolumes": [{"name": "tokens", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "tokens", "mountPath": "/run/tokens"}],
        "persistence": {"storageClassName": "fast", "annotations": {"backup": "daily"}},
        "serviceAccount": {"create": true, "annotations": {"role": "none"}},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "monitoring", "operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
        "networkPolicy": {"extraEgress": [{"ports": [{"port": 3128}]}]},
        "serviceMonitor": {
            "labels": {"prometheus": "apps"},
            "scheme": "https",
            "tlsConfig": {"serverName": "portraits.internal", "ca": {"secret": {"name": "web-tls", "key": "ca.crt"}}},
            "basicAuth": {"username": {"name": "scrape", "key": "user"}, "password": {"name": "scrape", "key": "password"}},
        },
        "prometheusRule": {
            "labels": {"role": "alert-rules"},
            "grafanaUrl": "https://grafana.internal/",
            "exporterUrl": "https://portraits.internal/",
            "documentationUrl": "https://docs.internal/",
        },
        "dashboards": {"enabled": true, "namespace": "monitoring", "annotations": {"grafana_folder": "WeChat"}},
    });
    for (key, value) in values.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

/// Returns an object without what Helm adds, and with what is the same in both in one form.
fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"] = json!({"name": name(&object)});
    if object["kind"] == "ConfigMap" {
        // The name of kustomize ends in a hash, instead of the annotation of Helm.
        object["metadata"] = json!({});
        let config = &mut object["data"]["wxapp-portrait.yml"];
        *config = read_yaml(text(config));
    }
    if let Some(template) = object.pointer_mut("/spec/template") {
        template["metadata"]["annotations"].take();
        let pod = &mut template["spec"];
        pod["volumes"][0]["configMap"]["name"].take();
        let secrets = &mut pod["volumes"][1];
        let projected = secrets["projected"].take();
        if projected.is_object() {
            secrets["secret"] = json!({
                "secretName": projected["sources"][0]["secret"]["name"],
                "defaultMode": projected["defaultMode"],
            });
        }
        pod["containers"][0]["imagePullPolicy"].take();
    }
    without_instance(&mut object);
    object
}

/// Removes the label with the name of the release, and what is null.
fn without_instance(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("app.kubernetes.io/instance");
            fields.values_mut().for_each(without_instance);
            fields.retain(|_, value| !value.is_null());
        }
        Value::Array(items) => items.iter_mut().for_each(without_instance),
        _ => {}
    }
}

#[test]
fn the_default_values_render_the_objects_of_kustomize() {
    for (chart, kustomize) in variants().iter().zip(Objects::variants()) {
        assert_eq!(chart.0.len(), kustomize.0.len());
        for object in &kustomize.0 {
            let kind = text(&object["kind"]);
            assert_eq!(comparable(chart.the(kind)), comparable(object), "{kind}");
        }
    }
}

#[test]
fn kubernetes_and_the_operator_accept_the_objects_of_the_chart() {
    let mut all: Vec<_> = variants()
        .into_iter()
        .flat_map(|objects| objects.0)
        .collect();
    for values in [
        json!({}),
        json!({"shards": 2}),
        json!({"postgresql": {"enabled": true, "port": 6432}}),
        json!({"affinity": {"nodeAffinity": {}}, "topologySpreadConstraints": []}),
    ] {
        all.extend(objects(everything(&values)).0);
    }
    assert_eq!(faults(&all), Vec::<String>::new());
}

#[test]
fn the_objects_of_the_chart_refer_to_each_other_and_the_program_accepts_them() {
    for objects in variants() {
        kubernetes::refer_to_each_other(&objects);
        kubernetes::has_no_rights_that_it_does_not_need(&objects);
        kubernetes::are_accepted_by_the_program(&objects);
    }
    // With one ConfigMap, which has the configuration alone.
    let all = json!({"shards": 2, "extraFiles": {}, "dashboards": {}});
    let all = everything(&all);
    kubernetes::are_accepted_by_the_program(&objects(all));
}

#[test]
fn the_chart_is_linted_without_findings() {
    for values in [json!({}), everything(&json!({}))] {
        let output = kubernetes::python(&["helm.py", "lint", CHART], &with_apps(values));
        assert!(output.status.success(), "{output:?}");
        let found = String::from_utf8(output.stdout).unwrap();
        assert_eq!(found, "Chart.yaml: icon is recommended\n");
    }
    let chart = read_yaml(&read(&format!("{CHART}/Chart.yaml")));
    for version in ["version", "appVersion"] {
        assert_eq!(chart[version], env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn wrong_values_are_errors() {
    let apps = json!([{"appid": "wx0123456789abcdef", "secret_file": "/run/secrets/shop"}]);
    for (values, problem) in [
        (
            json!({"shard": 3}),
            "additional properties 'shard' not allowed",
        ),
        (
            json!({"web": {"secret": "x"}}),
            "at '/web': additional properties 'secret'",
        ),
        (
            json!({"shards": "3"}),
            "at '/shards': got string, want integer",
        ),
        (
            json!({"serviceMonitor": {"interval": "1 minute"}}),
            "at '/serviceMonitor/interval'",
        ),
        (
            json!({"prometheusRule": {"grafanaUrl": "grafana"}}),
            "at '/prometheusRule/grafanaUrl'",
        ),
        (json!({}), "config.apps: none is configured"),
        (
            json!({"config": {"apps": apps}, "shards": 2, "postgresql": {"enabled": true}}),
            "shards and postgresql.enabled cannot be combined",
        ),
        (
            json!({"config": {"apps": apps, "archive": {"postgres_url_env": "URL"}}}),
            "set postgresql.enabled",
        ),
    ] {
        let found = rendered(&values, RELEASE).err();
        assert!(
            found.as_ref().is_some_and(|found| found.contains(problem)),
            "{values}: {found:?}"
        );
    }
}

#[test]
fn the_schema_has_all_values_and_no_others() {
    let schema: Value =
        serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let keys = |value: &Value| {
        let keys = value.as_object().unwrap().keys();
        keys.filter(|key| *key != "global")
            .cloned()
            .collect::<Vec<_>>()
    };
    let compare = |place: &str, values: &Value, schema: &Value| {
        assert_eq!(schema["additionalProperties"], false, "{place}");
        let (mut values, mut known) = (keys(values), keys(&schema["properties"]));
        values.sort();
        known.sort();
        assert_eq!(values, known, "{place}");
    };
    compare("", &values(), &schema);
    for (key, value) in values().as_object().unwrap() {
        let schema = &schema["properties"][key];
        if schema["properties"].is_object() {
            compare(key, value, schema);
        }
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let objects = objects(everything(&json!({"shards": 2})));
    for object in &objects.0 {
        assert!(name(object).starts_with("portraits"), "{object}");
        assert_eq!(
            object["metadata"]["labels"]["release"],
            "kube-prometheus-stack"
        );
        assert_eq!(object["metadata"]["annotations"]["owner"], "ops");
    }
    let container = objects.container();
    let image = text(&container["image"]);
    assert!(
        image.starts_with("registry.internal/wxapp-portrait-exporter@sha256:"),
        "{image}"
    );
    let flags = json!([
        "--web.config.file=/run/secrets/web/web.yml",
        "--web.route-prefix=/wx"
    ]);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(
            list(&container[probe]["exec"]["command"])[2..],
            *list(&flags)
        );
    }
    let arguments = list(&container["args"]);
    assert_eq!(arguments[4..6], *list(&flags));
    assert_eq!(arguments[6], "--log.format=json");
    let set = &objects.the("StatefulSet")["spec"];
    assert_eq!(
        set["volumeClaimTemplates"][0]["spec"]["storageClassName"],
        "fast"
    );
    let pod = &set["template"]["spec"];
    assert_eq!(
        pod["serviceAccountName"],
        name(objects.the("ServiceAccount"))
    );
    let secrets = &pod["volumes"][1]["projected"]["sources"];
    assert_eq!(
        *secrets,
        json!([{"secret": {"name": "shop"}}, {"secret": {"name": "postgres"}}])
    );

    let endpoint = &objects.the("ServiceMonitor")["spec"]["endpoints"][0];
    assert_eq!(endpoint["path"], "/wx/metrics");
    let scraped = &objects.the("ScrapeConfig")["spec"];
    let discovery = &scraped["httpSDConfigs"][1];
    assert_eq!(
        discovery["url"],
        "https://portraits-1.portraits.wxapp-portrait.svc:10690/wx/sd"
    );
    for client in [endpoint, scraped, discovery] {
        assert_eq!(client["tlsConfig"]["serverName"], "portraits.internal");
        assert_eq!(client["basicAuth"]["username"]["key"], "user");
    }

    let rules = objects.the("PrometheusRule")["spec"].to_string();
    for address in [
        "https://grafana.internal/d/",
        "https://portraits.internal/",
        "https://docs.internal/docs/",
    ] {
        assert!(rules.contains(address), "{address}");
    }
    assert!(!rules.contains("localhost") && !rules.contains("git.internal"));

    let dashboards: Vec<_> = objects
        .0
        .iter()
        .filter(|object| object["metadata"]["namespace"] == "monitoring")
        .collect();
    assert_eq!(dashboards.len(), copies().len() - 1);
    for dashboard in dashboards {
        assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
        for (file, content) in dashboard["data"].as_object().unwrap() {
            let original: Value =
                serde_json::from_str(&read(&format!("dashboards/{file}"))).unwrap();
            assert_eq!(
                serde_json::from_str::<Value>(text(content)).unwrap(),
                original
            );
        }
    }
}

#[test]
fn another_release_has_other_names_and_the_notes_name_them() {
    let values = with_apps(json!({"postgresql": {"enabled": true}}));
    let (objects, notes) = rendered(&values, ["two", "monitoring"]).unwrap();
    let expected = name(objects.the("Deployment"));
    assert_eq!(expected, "two-wxapp-portrait-exporter");
    assert!(
        notes.contains(&format!(
            "--namespace monitoring exec deployment/{expected}"
        )),
        "{notes}"
    );
}

/// A change of the configuration restarts the pods, as they read it only then.
#[test]
fn a_changed_configuration_restarts_the_pods() {
    let checksum = |values: Value| {
        let objects = objects(values);
        let template = &objects.the("StatefulSet")["spec"]["template"];
        text(&template["metadata"]["annotations"]["checksum/config"]).to_owned()
    };
    let before = checksum(json!({}));
    assert_eq!(
        before,
        checksum(json!({"resources": {"requests": {"cpu": "1"}}}))
    );
    assert_ne!(before, checksum(json!({"config": {"windows": ["1d"]}})));
    assert_ne!(before, checksum(json!({"extraFiles": {"2027.json": "{}"}})));
}

/// The files in the chart, and the files that they are copies of.
fn copies() -> Vec<(String, PathBuf)> {
    let dashboards = glob::glob(root().join("dashboards/*.json").to_str().unwrap()).unwrap();
    let dashboards = dashboards.map(|file| {
        let file = file.unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        (format!("dashboards/{name}"), file.clone())
    });
    let rules = "wxapp-portrait.rules.yml";
    let rules = (rules.to_owned(), root().join("alerts").join(rules));
    dashboards.chain([rules]).collect()
}

/// A chart can contain no files of other directories.
#[test]
fn the_chart_has_the_rules_and_the_dashboards() {
    let files = root().join(CHART).join("files");
    for (copy, original) in copies() {
        let original = std::fs::read_to_string(original).unwrap();
        assert_fresh(&format!("{CHART}/files/{copy}"), &original);
    }
    let found = glob::glob(files.join("**/*.*").to_str().unwrap()).unwrap();
    assert_eq!(found.count(), copies().len());
}

/// Returns a row of a table for each value, with its default and the comment above it.
fn table() -> String {
    let mut rows = "| value | default | |\n|---|---|---|\n".to_owned();
    let (mut group, mut comment) = (String::new(), String::new());
    for line in read(&format!("{CHART}/values.yaml")).lines() {
        if let Some(text) = line.trim().strip_prefix("# ") {
            assert!(comment.is_empty(), "{line}");
            text.clone_into(&mut comment);
            continue;
        }
        let Some((key, _)) = line.split_once(':') else {
            comment.clear();
            continue;
        };
        let place = match key.trim() {
            key if !line.starts_with(' ') => {
                key.clone_into(&mut group);
                format!("/{key}")
            }
            key => format!("/{group}/{key}"),
        };
        if comment.is_empty() {
            continue;
        }
        let default = values().pointer(&place).unwrap().to_string();
        let place = place[1..].replace('/', ".");
        writeln!(rows, "| `{place}` | `{default}` | {comment} |").unwrap();
        comment.clear();
    }
    rows
}

#[test]
fn the_readme_lists_all_values() {
    let readme = "deploy/helm/README.md";
    let table = table();
    let described = |place: &str| table.contains(&format!("\n| `{place}` |"));
    for (key, value) in values().as_object().unwrap() {
        let fields = value.as_object().into_iter().flatten();
        let mut fields = fields.map(|(field, _)| format!("{key}.{field}")).peekable();
        assert!(
            described(key) || fields.peek().is_some() && fields.all(|field| described(&field)),
            "{key}"
        );
    }
    assert_fresh(readme, &with_parts(readme, &[("values", table)]));
}
