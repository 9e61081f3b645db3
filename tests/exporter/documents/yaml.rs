//! Checks the YAML of documents with the program that it is for.
//!
//! Recognizes the program by the keys, and completes fragments.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::host::Host;
use crate::harness::APP;
use crate::helm;

const EXPORTER: [&str; 12] = [
    "apps",
    "apps_files",
    "archive",
    "dimensions",
    "holidays",
    "past",
    "poll",
    "stale_after",
    "swing",
    "top_names",
    "wechat",
    "windows",
];
const PROMETHEUS: [&str; 5] = [
    "alerting",
    "global",
    "remote_write",
    "rule_files",
    "scrape_configs",
];
const ALERTMANAGER: [&str; 5] = ["global", "inhibit_rules", "receivers", "route", "templates"];
const WEB: [&str; 4] = [
    "basic_auth_users",
    "http_server_config",
    "rate_limit",
    "tls_server_config",
];

/// A file that provisions directories of dashboards in Grafana.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Provisioning {
    api_version: u8,
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    name: String,
    r#type: String,
    options: ProviderOptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderOptions {
    path: String,
}

/// Checks a YAML block with its program, or returns why that is not possible.
pub(crate) async fn check(host: &Host<'_>, text: &str) -> Result<(), String> {
    let mut value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let keys = value.clone();
    let keys = keys.as_object().into_iter().flatten();
    let keys: BTreeSet<&str> = keys.map(|(key, _)| key.as_str()).collect();
    let all_of = |known: &[&str]| !keys.is_empty() && keys.iter().all(|key| known.contains(key));
    let of_chart = helm::values();
    let is_of_chart = |key: &&str| of_chart.get(key).is_some();
    let checks = if value[0]["appid"].is_string() {
        return exporter(host, &format!("apps:\n{text}"), false).await;
    } else if all_of(&EXPORTER) {
        return exporter(host, text, keys.contains("apps")).await;
    } else if all_of(&PROMETHEUS) {
        host.write("/etc/prometheus/prometheus.yml", text);
        "for promtool in promtool \"$NEWER/promtool\"; do
            $promtool check config /etc/prometheus/prometheus.yml
        done"
    } else if all_of(&ALERTMANAGER) {
        let whole = include_str!("../../../alerts/alertmanager/webhook.yml");
        let mut whole: Value = serde_saphyr::from_str(whole).unwrap();
        for (key, part) in value.as_object().unwrap() {
            match (whole[key].as_array_mut(), part) {
                (Some(list), Value::Array(part)) => list.extend(part.clone()),
                _ => whole[key] = part.clone(),
            }
        }
        host.write("part.yml", &whole.to_string());
        "\"$NEWER/amtool\" check-config part.yml"
    } else if all_of(&WEB) {
        let names = ["localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        host.write("server.crt", &made.cert.pem());
        host.write("server.key", &made.signing_key.serialize_pem());
        host.write("part.yml", text);
        "\"$NEWER/promtool\" check web-config part.yml"
    } else if keys.contains("services") {
        host.write("part.yml", text);
        "\"$NEWER/docker-compose\" --file part.yml config --quiet"
    } else if keys.iter().all(is_of_chart) {
        // Kept for later commands if it is complete.
        let file = if keys.contains("config") {
            "values.yaml"
        } else {
            value["config"] = json!({"apps": [{"appid": APP, "secret_file": "/run/secrets/shop"}]});
            "part.yaml"
        };
        host.write(file, &value.to_string());
        let chart = "deploy/helm/wxapp-portrait-exporter";
        let command = format!("helm upgrade --install portraits {chart} --values {file}");
        return host.run(&command).await.map(drop);
    } else if keys.contains("apiVersion") && keys.contains("kind") {
        let name = match value["kind"].as_str() {
            Some("Kustomization") => "kustomization",
            _ => "part",
        };
        // Next to the directory of the project, with a configuration of its own.
        host.write("/own/kustomization.yaml", "resources: [part.yaml]");
        host.write("/own/wxapp-portrait.yml", "");
        host.write(&format!("/own/{name}.yaml"), text);
        "kubectl kustomize /own/"
    } else if keys.contains("providers") {
        // Grafana itself is not available.
        let file: Provisioning = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let good = file.providers.iter().all(|provider| {
            let kind = provider.r#type.as_str();
            !provider.name.is_empty() && kind == "file" && provider.options.path.contains('/')
        });
        let good = good && file.api_version == 1;
        return good
            .then_some(())
            .ok_or("Grafana would not take it".to_owned());
    } else {
        return Err("unknown program for this block".to_owned());
    };
    host.run(checks).await.map(drop)
}

/// Checks a configuration with the exporter, with and without its commented lines. A complete one is
/// kept for later blocks, and its apps are polled.
async fn exporter(host: &Host<'_>, text: &str, is_whole: bool) -> Result<(), String> {
    let complete = |text: &str| {
        if text.contains("\napps:") || text.starts_with("apps:") {
            text.to_owned()
        } else {
            format!(
                "{text}apps: [{}]\n",
                json!({"appid": APP, "secret_file": "secrets/shop"})
            )
        }
    };
    let switched_on = regex::Regex::new(r"(?m)^( *)# ([a-z_]+: )").unwrap();
    for text in [text, &switched_on.replace_all(text, "$1$2")] {
        let text = complete(text);
        let value: Value = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
        host.write_files_of(&value);
        host.write("part.yml", &host.here(&text));
        let apps = value["apps"].as_array().into_iter().flatten();
        let variables = apps.filter_map(|app| app["secret_env"].as_str());
        let variables: Vec<_> = variables.map(|name| format!("{name}=x")).collect();
        let check = "wxapp-portrait-exporter --config.file part.yml --config.check";
        host.run(&format!("{} {check}", variables.join(" ")))
            .await?;
    }
    if is_whole {
        host.write("wxapp-portrait.yml", &host.here(text));
        host.run("wxapp-portrait-exporter check").await?;
    }
    Ok(())
}
