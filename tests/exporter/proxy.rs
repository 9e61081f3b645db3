//! Browsers and the real proxies between them and the program.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    APP, Exporter, Home, Prometheus, Running, WeChat, client, eventually, free_port, root,
};

/// Starts an exporter with flags of the web server.
async fn start(wechat: &WeChat, flags: &[String]) -> Exporter {
    let home = Home::of(wechat, &[APP]);
    let mut command = home.command();
    command.args(flags);
    let mut exporter = Exporter::start(command, vec![], None).await;
    exporter.keep(&home);
    exporter
}

/// Sends a request with headers; returns status and text.
async fn send(method: &str, url: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = client().request(method.parse().unwrap(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Follows the links of the exporter's page as a browser does; returns how many there are.
async fn follow_links(index: &str) -> usize {
    let (status, page) = send("GET", index, &[]).await;
    assert_eq!(status, 200, "{index}: {page}");
    let index: url::Url = index.parse().unwrap();
    let links = regex::Regex::new("(?:href|src|action)=\"([^\"]+)\"").unwrap();
    let links = links.captures_iter(&page);
    // The empty icon is no request.
    let links: Vec<_> = links.filter(|link| &link[1] != "data:,").collect();
    for link in &links {
        let (status, _) = send("GET", index.join(&link[1]).unwrap().as_str(), &[]).await;
        assert_eq!(status, 200, "{}", &link[1]);
    }
    links.len()
}

#[tokio::test]
async fn a_page_of_another_site_cannot_reload_the_configuration() {
    let wechat = WeChat::of(&[APP]).await;
    let external = "--web.external-url=https://metrics.example/".to_owned();
    let exporter = start(&wechat, &[external]).await;
    let reload = format!("{}/-/reload", exporter.url);
    for (headers, expected) in [
        (&[] as &[(&str, &str)], 200),
        (&[("origin", exporter.url.as_str())], 200),
        (&[("origin", "https://metrics.example")], 200),
        (&[("sec-fetch-site", "same-origin")], 200),
        (&[("origin", "https://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
    ] {
        let (status, text) = send("POST", &reload, headers).await;
        assert_eq!(status, expected, "{headers:?}: {text}");
        let is_explained = text.contains("another site") && text.contains("--web.external-url");
        assert_eq!(is_explained, expected == 403, "{text}");
    }
    let (status, text) = send("GET", &reload, &[]).await;
    assert_eq!((status, text.starts_with("use POST")), (405, true));
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_are_not_framed() {
    let wechat = WeChat::of(&[APP]).await;
    let exporter = start(&wechat, &[]).await;
    for (path, is_page) in [("/", true), ("/metrics", false), ("/nowhere", false)] {
        let response = exporter.ask("GET", path, "identity").await;
        let header = |name| {
            response
                .headers()
                .get(name)
                .map(|text| text.to_str().unwrap())
        };
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{path}");
        let policy = header("content-security-policy").unwrap_or_default();
        let is_strict = policy.contains("default-src 'none'") && policy.contains("frame-ancestors");
        assert_eq!(is_strict, is_page, "{path}");
    }
}

#[tokio::test]
async fn all_paths_are_below_the_route_prefix() {
    let wechat = WeChat::of(&[APP]).await;
    let external = "--web.external-url=https://metrics.example/a/wx/".to_owned();
    let exporter = start(&wechat, &[external]).await;
    let at = |path: &str| format!("{}{path}", exporter.url);
    let ready = at("/a/wx/-/ready");
    eventually("readiness", async || {
        (send("GET", &ready, &[]).await.0 == 200).then_some(())
    })
    .await;
    for path in ["/metrics", "/-/healthy", "/-/ready", "/api/v1/status"] {
        assert_eq!(send("GET", &at(&format!("/a/wx{path}")), &[]).await.0, 200);
        assert_eq!(send("GET", &at(path), &[]).await.0, 404, "{path}");
    }
    assert!(follow_links(&at("/a/wx/")).await > 3);
    let browser = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::limited(3));
    let browser = browser.build().unwrap();
    for path in ["/", "/a/wx"] {
        for query in [None, Some("lang=zh&q=%3Cb%3E")] {
            let query_of_path = query.map_or_else(String::new, |query| format!("?{query}"));
            let url = at(&format!("{path}{query_of_path}"));
            let page = browser.get(url).send().await.unwrap();
            assert_eq!((page.url().path(), page.url().query()), ("/a/wx/", query));
            assert_eq!(page.status(), 200);
        }
    }
    let address = exporter.url.strip_prefix("http://").unwrap();
    for (prefix, expected) in [("/a/wx", true), ("a/wx/", true), ("/", false)] {
        let mut check = crate::harness::program();
        check.args(["healthcheck", "--web.listen-address", address]);
        check.args(["--web.route-prefix", prefix]);
        assert_eq!(
            check.output().unwrap().status.success(),
            expected,
            "{prefix}"
        );
    }
}

#[tokio::test]
async fn nginx_and_caddy_serve_the_exporter_below_a_path() {
    let wechat = WeChat::of(&[APP]).await;
    for (file, host) in [("nginx.conf", ""), ("Caddyfile", "http://")] {
        let [proxy, port] = [free_port(), free_port()].map(|port| port.to_string());
        let site = format!("http://localhost:{proxy}");
        let flags = [
            format!("--web.external-url={site}/wx/"),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let exporter = start(&wechat, &flags).await;
        let text = configuration(file, &format!("{host}localhost"), &proxy, &port);
        let directory = tempfile::tempdir().unwrap();
        let _running = run(&directory, file, &text);
        eventually(file, async || {
            let response = client().get(format!("{site}/wx/-/healthy")).send().await;
            response.ok().filter(|response| response.status() == 200)
        })
        .await;
        assert!(follow_links(&format!("{site}/wx/")).await > 3);
        // What is discovered leads through the proxy, too.
        let (_, text) = send("GET", &format!("{site}/wx/sd"), &[]).await;
        let targets: Value = serde_json::from_str(&text).unwrap();
        let address = targets[0]["targets"][0].as_str().unwrap();
        assert_eq!(address, format!("localhost:{proxy}"));
        let path = targets[0]["labels"]["__metrics_path__"].as_str().unwrap();
        let url = format!("http://{address}{path}?target={APP}");
        assert_eq!(send("GET", &url, &[]).await.0, 200, "{url}");
        for (origin, expected) in [(site.as_str(), 200), ("http://evil.example", 403)] {
            let headers = [("origin", origin)];
            let (status, text) = send("POST", &format!("{site}/wx/-/reload"), &headers).await;
            assert_eq!(status, expected, "{file} {origin}: {text}");
        }
        drop(exporter);
    }
}

/// Returns a file of this project for another name and other ports.
fn configuration(file: &str, name: &str, proxy: &str, port: &str) -> String {
    let text = std::fs::read_to_string(root().join("deploy/proxy").join(file)).unwrap();
    // The comments contain the address, too.
    text.replace("listen 80;", &format!("listen {proxy};"))
        .replace("listen 443 ssl;", &format!("listen {proxy} ssl;"))
        .replace("\nportraits.internal {", &format!("\n{name}:{proxy} {{"))
        .replace("portraits.internal;", "localhost;")
        .replace("127.0.0.1:10690", &format!("127.0.0.1:{port}"))
}

#[tokio::test]
async fn prometheus_scrapes_through_nginx_and_caddy_with_tls_and_a_password() {
    let wechat = WeChat::of(&[APP]).await;
    let settings = regex::Regex::new(
        r"(?m)^(\s+)# (listen|ssl_certificate|auth_basic|tls /|basicauth|prometheus HASH|\})",
    )
    .unwrap();
    for file in ["nginx.conf", "Caddyfile"] {
        let [proxy, port] = [free_port(), free_port()].map(|port| port.to_string());
        let site = format!("https://localhost:{proxy}/wx");
        let flags = [
            format!("--web.external-url={site}/"),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let exporter = start(&wechat, &flags).await;
        let directory = tempfile::tempdir().unwrap();
        // For the processes of nginx, which belong to another user.
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        write("portraits.crt", &made.cert.pem());
        write("portraits.key", &made.signing_key.serialize_pem());
        let hash = bcrypt::hash_with_salt("correct horse", 4, [7; 16]).unwrap();
        write("portraits.htpasswd", &format!("prometheus:{hash}\n"));
        let text = configuration(file, "localhost", &proxy, &port)
            .replace(&format!("listen {proxy}; # without TLS only"), "");
        let text = settings.replace_all(&text, "$1$2");
        let text = text
            .replace("/etc/nginx", &directory.path().display().to_string())
            .replace("/etc/caddy", &directory.path().display().to_string())
            .replace("HASH", &hash.to_string());
        let _running = run(&directory, file, &text);
        let curl = |url: &str, arguments: &[&str]| {
            let mut curl = Command::new("curl");
            curl.args([
                "--silent",
                "--noproxy",
                "*",
                "--cacert",
                &path("portraits.crt"),
            ]);
            curl.args(["--header", "Accept-Encoding: gzip"])
                .args(arguments)
                .arg(url);
            curl.output().unwrap().stdout
        };
        let status = |user: &str| {
            let arguments = [
                "--user",
                user,
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
            ];
            let status = curl(&format!("{site}/sd"), &arguments);
            String::from_utf8(status).unwrap()
        };
        let user = "prometheus:correct horse";
        eventually(file, async || (status(user) == "200").then_some(())).await;
        assert_eq!(status("prometheus:wrong"), "401", "{file}");
        assert_eq!(status(":"), "401", "{file}");
        // What the exporter has compressed arrives as it is.
        let compressed = curl(&format!("{}/wx/sd", exporter.url), &[]);
        assert!(compressed.starts_with(b"\x1f\x8b"), "{file}");
        let arrived = curl(&format!("{site}/sd"), &["--user", user]);
        assert_eq!(arrived, compressed, "{file}");

        let access = |mut config: Value| {
            config["tls_config"] = json!({"ca_file": path("portraits.crt")});
            config["basic_auth"] = json!({"username": "prometheus", "password": "correct horse"});
            config
        };
        let job = access(json!({
            "job_name": "wxapp",
            "scheme": "https",
            "metrics_path": "/wx/metrics",
            "params": {"collect[]": ["exporter"]},
            "http_sd_configs": [access(json!({"url": format!("{site}/sd")}))],
            "static_configs": [{"targets": [format!("localhost:{proxy}")]}],
        }));
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [job],
        });
        let prometheus = Prometheus::over(tempfile::tempdir().unwrap(), &config);
        prometheus.query("count(up == 1) == 2").await;
        let app = format!("wxapp_portrait_app_info{{appid=\"{APP}\"}}");
        prometheus.query(&app).await;
    }
}

/// Runs a proxy with a file of this project.
fn run(directory: &TempDir, file: &str, text: &str) -> Running {
    let path = directory.path().join(file);
    std::fs::write(&path, text).unwrap();
    let place = directory.path().display();
    let mut command;
    if file == "Caddyfile" {
        std::fs::write(
            &path,
            format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{text}"),
        )
        .unwrap();
        command = Command::new("caddy");
        command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&path);
        command.env("HOME", directory.path());
        command
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME");
    } else {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path {place}/{name};"));
        let main = format!(
            "daemon off; pid {place}/pid; error_log stderr; events {{}}\nhttp {{ access_log off; {} include {}; }}\n",
            temporary.join(" "),
            path.display()
        );
        let main_file = directory.path().join("main.conf");
        std::fs::write(&main_file, main).unwrap();
        // It need not be in the path of users.
        command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(main_file);
        command.args(["-p", directory.path().to_str().unwrap(), "-e", "stderr"]);
    }
    Running::start(command)
}
