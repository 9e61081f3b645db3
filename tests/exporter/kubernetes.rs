//! The objects of `deploy/kubernetes`: whether Kubernetes and the Prometheus Operator accept them,
//! whether they fit each other and the program, and whether the README is right.
//!
//! Has no cluster: reads the output of `kubectl kustomize`, and validates it with the published schemas.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::documents::markdown::Document;
use crate::harness::{APP, Home, Prometheus, WeChat, assert_fresh, newer, program, root, scraping};
use serde_json::{Value, json};

/// The rules as an object for the Prometheus Operator, without the rules.
const RULE: &str = "\
# Made from alerts/wxapp-portrait.rules.yml by a test: change that file, and run
# `cargo test kubernetes`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: wxapp-portrait-exporter
spec:
";

/// What can be added to the base instead of its one exporter.
const COMPONENTS: [&str; 2] = ["shards", "replicas"];

/// Where the pod finds the URL of the database, if there is one.
const POSTGRES_URL: &str = "postgres-url";

/// Where the pod of the chart finds a web configuration.
const WEB: &str = "/run/secrets/web";

fn base() -> PathBuf {
    root().join("deploy/kubernetes")
}

/// Copies the base with its components into a directory; the reader of its README edits it there.
fn copy_base(to: &Path) {
    for file in glob::glob(base().join("**/*.y*ml").to_str().unwrap()).unwrap() {
        let file = file.unwrap();
        let copy = to.join(file.strip_prefix(base()).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(&file, copy).unwrap();
    }
}

/// Removes the `# ` before a line that begins so.
fn switch_on(file: &Path, line: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    let comment = format!("\n# {line}");
    assert_eq!(text.matches(&comment).count(), 1, "{line}");
    std::fs::write(file, text.replace(&comment, &format!("\n{line}"))).unwrap();
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

pub(crate) fn read_yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Returns the output of a program that must succeed.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// All objects that would be applied.
pub(crate) struct Objects(pub(crate) Vec<Value>);

impl Objects {
    fn of(directory: &Path) -> Self {
        let printed = printed(
            Command::new(newer("kubectl"))
                .arg("kustomize")
                .arg(directory),
        );
        Self(serde_saphyr::from_multiple(&printed).unwrap())
    }

    /// Returns those of the base with a component, switched on as the files say.
    fn with(component: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        copy_base(directory.path());
        let kustomization = directory.path().join("kustomization.yaml");
        switch_on(&kustomization, &format!("components: [{component}]"));
        if component == "replicas" {
            switch_on(&directory.path().join("wxapp-portrait.yml"), "archive: ");
        }
        Self::of(directory.path())
    }

    /// Returns those of the base alone, and with each of its components.
    pub(crate) fn variants() -> [Self; 3] {
        let [shards, replicas] = COMPONENTS.map(Self::with);
        [Self::of(&base()), shards, replicas]
    }

    /// Returns the one object of a kind.
    pub(crate) fn the(&self, kind: &str) -> &Value {
        let mut found = self.0.iter().filter(|object| object["kind"] == kind);
        let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
        assert_eq!(found.next(), None, "another {kind}");
        object
    }

    fn has(&self, kind: &str) -> bool {
        self.0.iter().any(|object| object["kind"] == kind)
    }

    /// Returns what starts the pods.
    fn workload(&self) -> &Value {
        let is_stateful = self.has("StatefulSet");
        self.the(if is_stateful {
            "StatefulSet"
        } else {
            "Deployment"
        })
    }

    fn pod(&self) -> &Value {
        &self.workload()["spec"]["template"]
    }

    pub(crate) fn container(&self) -> &Value {
        let containers = list(&self.pod()["spec"]["containers"]);
        assert_eq!(containers.len(), 1);
        &containers[0]
    }

    /// Returns where a volume is mounted.
    fn mount(&self, volume: &str) -> &str {
        let mut mounts = list(&self.container()["volumeMounts"]).iter();
        let mount = mounts.find(|mount| mount["name"] == volume);
        text(&mount.unwrap()["mountPath"])
    }

    fn volume(&self, name: &str) -> &Value {
        let mut volumes = list(&self.pod()["spec"]["volumes"]).iter();
        volumes.find(|volume| volume["name"] == name).unwrap()
    }
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub(crate) fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

/// Runs a program of `tests/kubernetes` that reads JSON.
pub(crate) fn python(arguments: &[&str], input: &Value) -> Output {
    let python = root().join("target/tools/python/bin/python");
    let (script, arguments) = arguments.split_first().unwrap();
    let mut running = Command::new(&python)
        .arg(root().join("tests/kubernetes").join(script))
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}: run tests/run", python.display()));
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    running.wait_with_output().unwrap()
}

/// Returns the errors of the schemas, one per line.
pub(crate) fn faults(objects: &[Value]) -> Vec<String> {
    let output = python(&["validate.py"], &objects.into());
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().map(str::to_owned).collect()
}

#[test]
fn the_operator_gets_the_alert_rules() {
    let rules = read("alerts/wxapp-portrait.rules.yml");
    assert_fresh("deploy/kubernetes/prometheusrule.yaml", &rule_of(&rules));

    // Kustomize replaces aliases by what they stand for.
    let objects = Objects::of(&base());
    let spec = &objects.the("PrometheusRule")["spec"];
    assert_eq!(*spec, read_yaml(&rules));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yml");
    // JSON is YAML.
    std::fs::write(&file, spec.to_string()).unwrap();
    printed(
        Command::new(newer("promtool"))
            .args(["check", "rules"])
            .arg(file),
    );
}

fn rule_of(rules: &str) -> String {
    let lines = rules.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("  {line}\n"),
    });
    std::iter::once(RULE.to_owned()).chain(lines).collect()
}

#[test]
fn kubernetes_and_the_operator_accept_all_objects() {
    let variants = Objects::variants();
    let numbers = variants.each_ref().map(|objects| objects.0.len());
    assert_eq!(numbers, [6, 8, 7]);
    // At once, as reading the schemas takes seconds.
    let objects: Vec<_> = variants.into_iter().flat_map(|objects| objects.0).collect();
    assert_eq!(faults(&objects), Vec::<String>::new());
}

/// A mistake: a kind, a place in it, and the value there; nothing if it is removed.
const BREAKS: &str = r#"
StatefulSet /spec/template/spec/container []
StatefulSet /spec/template/spec/containers/0/securityContext/readonlyRootFilesystem true
Service /spec/selectors {}
NetworkPolicy /spec/ingress/0/ports/0/name "http"
ServiceMonitor /metadata/label {}
ServiceMonitor /spec/endpoints/0/scrapeInterval "1m"
PrometheusRule /spec/group []
PrometheusRule /spec/groups/0/rules/0/annotation {}
ScrapeConfig /spec/httpSDConfigs/0/urls []
PodDisruptionBudget /spec/maxAvailable 1

StatefulSet /apiVersion "apps/v1beta2"
ServiceMonitor /apiVersion "monitoring.coreos.com/v2"
ScrapeConfig /apiVersion "monitoring.coreos.com/v1beta1"

ConfigMap /data/wxapp-portrait.yml {}
StatefulSet /spec/replicas "1"
StatefulSet /spec/template/spec/containers/0/args "-h"
Service /spec/ports/0/port "10690"
NetworkPolicy /spec/ingress/0/from/0/podSelector "all"
ServiceMonitor /spec/endpoints/0/interval "1 minute"
ServiceMonitor /spec/endpoints/0/relabelings/0/action "forget"
PrometheusRule /spec/groups/0/interval 60
ScrapeConfig /spec/scrapeInterval "1 minute"

StatefulSet /spec/selector
StatefulSet /spec/template/spec/containers/0/livenessProbe/periodSeconds "often"
Service /spec/ports/0/port
ServiceMonitor /spec/selector
PrometheusRule /spec/groups/0/name
PrometheusRule /spec/groups/0/rules/0/expr
ScrapeConfig /spec/httpSDConfigs/0/url
"#;

#[test]
fn invalid_objects_are_found() {
    let objects = Objects::with("shards");
    let breaks = BREAKS.lines().filter(|line| !line.is_empty());
    let breaks = breaks.enumerate().map(|(number, line)| {
        let (kind, rest) = line.split_once(' ').unwrap();
        let (place, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let (parent, key) = place.rsplit_once('/').unwrap();
        let mut object = objects.the(kind).clone();
        object["metadata"]["name"] = format!("broken-{number}").into();
        let fields = object.pointer_mut(parent).unwrap();
        let fields = fields.as_object_mut().unwrap();
        if value.is_empty() {
            assert_ne!(fields.remove(key), None, "{line}");
        } else {
            fields.insert(key.to_owned(), serde_json::from_str(value).unwrap());
        }
        let parent = parent.trim_start_matches('/').replace('/', ".");
        ((format!("broken-{number}: {parent}"), key), object)
    });
    let (breaks, broken): (Vec<_>, Vec<_>) = breaks.unzip();
    let found = faults(&broken);
    for (place, key) in breaks {
        let is_found = |line: &String| line.starts_with(&place) && line.contains(key);
        assert!(found.iter().any(is_found), "{place} {key}: {found:#?}");
    }
}

#[test]
fn all_objects_refer_to_each_other() {
    for objects in Objects::variants() {
        refer_to_each_other(&objects);
    }
}

pub(crate) fn refer_to_each_other(objects: &Objects) {
    let (workload, service) = (objects.workload(), objects.the("Service"));
    let (policy, monitor) = (objects.the("NetworkPolicy"), objects.the("ServiceMonitor"));
    let pod = &objects.pod()["metadata"];
    let mut selectors = vec![
        (&workload["spec"]["selector"]["matchLabels"], pod),
        (&service["spec"]["selector"], pod),
        (&policy["spec"]["podSelector"]["matchLabels"], pod),
        (
            &monitor["spec"]["selector"]["matchLabels"],
            &service["metadata"],
        ),
    ];
    if objects.has("PodDisruptionBudget") {
        let budget = objects.the("PodDisruptionBudget");
        selectors.push((&budget["spec"]["selector"]["matchLabels"], pod));
    }
    for (selector, selected) in selectors {
        let labels = selector.as_object().unwrap();
        assert!(!labels.is_empty());
        for (label, value) in labels {
            assert_eq!(selected["labels"][label], *value, "{label}");
        }
    }

    let named = |ports: &Value, name: &Value| {
        let mut ports = list(ports).iter();
        let port = ports.find(|port| port["name"] == *name);
        port.unwrap_or_else(|| panic!("no port {name}")).clone()
    };
    let container = objects.container();
    let of_container = |name| named(&container["ports"], name)["containerPort"].clone();
    let of_service = named(
        &service["spec"]["ports"],
        &monitor["spec"]["endpoints"][0]["port"],
    );
    let port = of_container(&of_service["targetPort"]);
    assert_eq!(of_service["port"], port);
    assert_eq!(
        of_container(&policy["spec"]["ingress"][0]["ports"][0]["port"]),
        port
    );
    // The port on which `healthcheck` looks by default.
    assert_eq!(port, 10690);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        if container[probe]["httpGet"].is_object() {
            assert_eq!(of_container(&container[probe]["httpGet"]["port"]), port);
            continue;
        }
        let program = text(&container[probe]["exec"]["command"][0]);
        let image = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
        assert!(
            image.contains(&format!("ENTRYPOINT [\"{program}\"")),
            "{program}"
        );
    }
    let help = printed(program().arg("--help"));
    assert!(help.contains(&format!("[default: :{port}]")), "{help}");

    let config = &objects.volume("config")["configMap"]["name"];
    assert_eq!(*config, *name(objects.the("ConfigMap")));
    if objects.has("StatefulSet") {
        assert_eq!(workload["spec"]["serviceName"], *name(service));
        let claim = &workload["spec"]["volumeClaimTemplates"][0]["metadata"]["name"];
        let archive = format!("--storage.path={}", objects.mount(text(claim)));
        assert!(list(&container["args"]).contains(&archive.into()));
    }

    let image = text(&container["image"]);
    let (_, tag) = image.rsplit_once(':').unwrap();
    assert_eq!(tag, env!("CARGO_PKG_VERSION"));
}

#[test]
fn exporters_of_the_same_apps_share_an_archive() {
    let [one, shards, replicas] = Objects::variants();
    for (objects, exporters) in [(&one, 1), (&shards, 3), (&replicas, 2)] {
        assert_eq!(objects.workload()["spec"]["replicas"], exporters);
        let has_shards = list(&objects.container()["args"])
            .iter()
            .any(|argument| text(argument).starts_with("--shard="));
        let config = text(&objects.the("ConfigMap")["data"]["wxapp-portrait.yml"]);
        let is_shared = !read_yaml(config)["archive"].is_null();
        assert_eq!(exporters > 1, has_shards || is_shared, "{exporters}");
    }
    let ports = list(&replicas.the("NetworkPolicy")["spec"]["egress"]).iter();
    let mut ports = ports.flat_map(|rule| list(&rule["ports"]));
    assert!(ports.any(|port| port["port"] == 5432));
}

#[test]
fn every_shard_is_discovered() {
    let objects = Objects::with("shards");
    let (set, service) = (objects.workload(), objects.the("Service"));
    let shards = set["spec"]["replicas"].as_u64().unwrap();
    let arguments = list(&objects.container()["args"]);
    assert!(arguments.contains(&format!("--total-shards={shards}").into()));
    let variable = &objects.container()["env"][0];
    assert!(arguments.contains(&format!("--shard=$({})", text(&variable["name"])).into()));
    assert_eq!(
        variable["valueFrom"]["fieldRef"]["fieldPath"],
        "metadata.name"
    );

    let scraped = &objects.the("ScrapeConfig")["spec"];
    // Dashboards and rules expect one job, and that of a ServiceMonitor is the name of the Service.
    assert_eq!(scraped["jobName"], *name(service));
    let found = list(&scraped["httpSDConfigs"]);
    let found: Vec<_> = found.iter().map(|config| text(&config["url"])).collect();
    let (set, service, namespace) = (
        name(set),
        name(service),
        text(&service["metadata"]["namespace"]),
    );
    let urls =
        (0..shards).map(|shard| format!("http://{set}-{shard}.{service}.{namespace}.svc:10690/sd"));
    assert_eq!(found, urls.collect::<Vec<_>>());
}

#[test]
fn the_program_accepts_its_arguments_and_the_configuration() {
    for objects in Objects::variants() {
        are_accepted_by_the_program(&objects);
    }
}

pub(crate) fn are_accepted_by_the_program(objects: &Objects) {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().to_str().unwrap();
    let (config, secrets) = (objects.mount("config"), objects.mount("secrets"));
    let write = |path: &Value, content: &str| {
        let secret = text(path).strip_prefix(secrets).unwrap();
        let secret = secret.strip_prefix('/').unwrap();
        std::fs::write(directory.path().join(secret), content).unwrap();
    };

    for (file, content) in objects.the("ConfigMap")["data"].as_object().unwrap() {
        let values = read_yaml(text(content));
        for app in list(&values["apps"]) {
            write(&app["secret_file"], "a-secret");
        }
        let url = &values["archive"]["postgres_url_file"];
        if !url.is_null() {
            assert!(text(url).ends_with(POSTGRES_URL));
            write(url, "postgres://portraits:a-password@db.internal/portraits");
        }
        let content = text(content).replace(secrets, here);
        std::fs::write(directory.path().join(file), content).unwrap();
    }
    std::fs::write(directory.path().join("web.yml"), "{}").unwrap();
    let pod = format!("{}-0", name(objects.workload()));
    let arguments = list(&objects.container()["args"]).iter();
    let arguments = arguments.map(|argument| {
        let argument = text(argument).replace(config, here);
        let argument = argument.replace(WEB, here);
        argument.replace("$(POD_NAME)", &pod)
    });
    let said = printed(program().args(arguments).arg("--config.check"));
    assert!(said.contains("valid, apps: "), "{said}");
}

/// Requires what the Pod Security Standard *restricted* requires, and more.
#[test]
fn the_pod_has_no_rights_that_it_does_not_need() {
    for objects in Objects::variants() {
        has_no_rights_that_it_does_not_need(&objects);
    }
}

pub(crate) fn has_no_rights_that_it_does_not_need(objects: &Objects) {
    let (pod, container) = (&objects.pod()["spec"], objects.container());
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_ne!(pod["securityContext"]["runAsUser"], 0);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let context = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], context);
    for forbidden in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
        assert_eq!(pod[forbidden], Value::Null, "{forbidden}");
    }
    for volume in list(&pod["volumes"]) {
        let mut kinds = ["configMap", "secret", "projected", "emptyDir"].into_iter();
        let is_known = kinds.any(|kind| volume[kind].is_object());
        assert!(is_known, "{volume}");
    }
    for volume in ["config", "secrets"] {
        let mut mounts = list(&container["volumeMounts"]).iter();
        let mount = mounts.find(|mount| mount["name"] == volume).unwrap();
        assert_eq!(mount["readOnly"], true, "{volume}");
    }
}

#[tokio::test]
async fn probes_are_answered_and_scraped_series_keep_their_labels() {
    let objects = Objects::of(&base());
    let wechat = WeChat::of(&[APP]).await;
    let exporter = Home::of(&wechat, &[APP]).start().await;
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let mut check = program();
        let command = list(&objects.container()[probe]["exec"]["command"]);
        check.args(command[1..].iter().map(text));
        let address = exporter.url.strip_prefix("http://").unwrap();
        let check = check.args(["--web.listen-address", address]).output();
        assert!(check.as_ref().unwrap().status.success(), "{check:?}");
    }
    exporter.ready().await;

    let endpoint = &objects.the("ServiceMonitor")["spec"]["endpoints"][0];
    let pod = format!("{}-0", name(objects.the("StatefulSet")));
    let mut config = scraping(&[&exporter]);
    let job = &mut config["scrape_configs"][0];
    job["metrics_path"] = endpoint["path"].clone();
    job["relabel_configs"] = list(&endpoint["relabelings"])
        .iter()
        .map(relabeling)
        .collect();
    // The labels that the Operator adds.
    job["static_configs"][0]["labels"] = json!({
        "__meta_kubernetes_pod_name": pod,
        "namespace": objects.the("Service")["metadata"]["namespace"],
        "service": name(objects.the("Service")),
        "pod": pod,
        "container": objects.container()["name"],
        "endpoint": endpoint["port"],
    });
    let prometheus = Prometheus::over(tempfile::tempdir().unwrap(), &config);
    let requests = prometheus.query("wxapp_portrait_api_requests_total").await;
    assert!(
        requests
            .keys()
            .any(|labels| labels["endpoint"] == "portrait"),
        "{requests:?}"
    );
    let everything = [("match[]", r#"{__name__=~"wxapp_portrait_.+"}"#)];
    let answer = prometheus.ask("series", &everything).await;
    let series = list(&answer["data"]);
    assert!(series.len() > 100, "{answer}");
    for series in series {
        assert_eq!(series["instance"], *pod);
        let mut labels = series.as_object().unwrap().keys();
        assert!(
            !labels.any(|label| label.starts_with("exported_")),
            "{series}"
        );
    }
}

/// Returns a rule of relabeling as Prometheus itself spells it.
fn relabeling(rule: &Value) -> Value {
    let fields = rule.as_object().unwrap().iter().map(|(name, value)| {
        let name = match name.as_str() {
            "sourceLabels" => "source_labels",
            "targetLabel" => "target_label",
            name => name,
        };
        (name.to_owned(), value.clone())
    });
    Value::Object(fields.collect())
}

fn readme() -> String {
    read("deploy/kubernetes/README.md")
}

/// Returns the blocks of a language in a text.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let blocks = Document::read("", text).blocks.into_iter();
    let blocks = blocks.filter(|block| block.language == language);
    blocks.map(|block| block.text).collect()
}

#[test]
fn a_users_own_overlay_adapts_the_base() {
    // Kustomize does not accept absolute paths.
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("wxapp-portrait-exporter");
    let kubernetes = project.join("deploy/kubernetes");
    copy_base(&kubernetes);
    let own = directory.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let kustomizations = blocks(&readme(), "yaml");
    assert_eq!(kustomizations.len(), 1);
    std::fs::write(own.join("kustomization.yaml"), &kustomizations[0]).unwrap();
    std::fs::write(own.join("wxapp-portrait.yml"), "apps: []\n").unwrap();

    let objects = Objects::of(&own);
    assert_eq!(faults(&objects.0), Vec::<String>::new());
    let component = "components: [../wxapp-portrait-exporter/deploy/kubernetes/shards]";
    assert!(readme().contains(component));
    let kustomization = format!("{}{component}\n", kustomizations[0]);
    std::fs::write(own.join("kustomization.yaml"), kustomization).unwrap();
    let with_shards = Objects::of(&own);
    assert_eq!(with_shards.0.len(), objects.0.len() + 2);
    for object in objects.0.iter().chain(&with_shards.0) {
        assert_eq!(object["metadata"]["namespace"], "portraits");
        assert_eq!(
            object["metadata"]["labels"]["release"],
            "kube-prometheus-stack"
        );
    }
    assert_eq!(
        objects.the("ConfigMap")["data"],
        json!({"wxapp-portrait.yml": "apps: []\n"})
    );
    let config = &objects.volume("config")["configMap"]["name"];
    assert_eq!(*config, *name(objects.the("ConfigMap")));
    let image = text(&objects.container()["image"]);
    assert!(image.starts_with("images.internal/"), "{image}");
    let claim = &objects.the("StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(claim["storageClassName"], "fast");
}

/// `documents` runs them.
#[test]
fn the_commands_of_the_readme_name_what_is_applied() {
    let readme = readme();
    let objects = Objects::of(&base());
    let set = name(objects.the("StatefulSet"));
    let namespace = text(&objects.the("StatefulSet")["metadata"]["namespace"]);
    let claim = &objects.the("StatefulSet")["spec"]["volumeClaimTemplates"][0];
    assert!(readme.contains(&format!("`{}-{set}-0`", name(claim))));
    let pod = format!("{set}-0");
    let secret = text(&objects.volume("secrets")["secret"]["secretName"]);
    let image = text(&objects.container()["image"]);

    let mut named = BTreeSet::new();
    for command in blocks(&readme, "console").join("\n").lines() {
        let words: Vec<_> = command.split_whitespace().collect();
        for pair in words.windows(2) {
            let (what, wanted) = match pair[0] {
                "--namespace" | "namespace" => ("namespace", namespace),
                "generic" => ("secret", secret),
                "--tag" | "push" => ("image", image),
                _ => continue,
            };
            assert_eq!(pair[1], wanted, "{command}");
            named.insert(what);
        }
        for word in words {
            if let Some(found) = word.strip_prefix("statefulset/") {
                assert_eq!(found, set, "{command}");
            }
            let found = word.trim_start_matches("pod/");
            if found.starts_with(&format!("{set}-")) {
                assert_eq!(found, pod, "{command}");
                named.insert("pod");
            }
        }
    }
    assert_eq!(named.len(), 4, "{named:?}");
}
