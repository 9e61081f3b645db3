//! The pages for people: every figure against the archive, odd names, search, languages.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use regex::Regex;
use serde_json::json;
use wxapp_portrait_exporter::archive::{Row, Store};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::language::{Language, number, share};
use wxapp_portrait_exporter::portrait::{Breakdown, Cohort, Dimension, Portrait, Window};
use wxapp_portrait_exporter::wechat::decode;

use crate::harness::{
    APP, Exporter, Home, OTHER, Page, WeChat, appid, apps_of, now, on_one_day, yesterday,
};

/// Returns the text of a page, or of a part of it, as a browser shows it.
fn text(html: &str) -> String {
    let html = Regex::new("(?s)<(script|title)[ >].*?</(script|title)>|<[^>]*>")
        .unwrap()
        .replace_all(html, " ");
    let entities = [
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#38;", "&"),
    ];
    let text = entities
        .iter()
        .fold(html.into_owned(), |text, (entity, character)| {
            text.replace(entity, character)
        });
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the rows of a table: the text of every cell.
fn rows(html: &str) -> Vec<Vec<String>> {
    let row = Regex::new("(?s)<tr[ >].*?</tr>").unwrap();
    let cell = Regex::new("(?s)<t[hd][ >].*?</t[hd]>").unwrap();
    row.find_iter(html)
        .map(|row| {
            let cells = cell.find_iter(row.as_str());
            cells.map(|cell| text(cell.as_str())).collect()
        })
        .collect()
}

/// Returns the part of a page with this id, up to the end of that element.
fn part<'a>(html: &'a str, element: &str, id: &str) -> &'a str {
    let start = format!("<{element}[^>]* id=\"{id}\"");
    let start = Regex::new(&start).unwrap().find(html);
    let start = start.unwrap_or_else(|| panic!("no {element} {id}")).start();
    let end = html[start..].find(&format!("</{element}>")).unwrap();
    &html[start..start + end]
}

async fn page(exporter: &Exporter, path: &str) -> String {
    let (status, html) = exporter.get(path).await;
    assert_eq!(status, 200, "{path}: {html}");
    html
}

fn portrait(wechat: &WeChat, app: &str, window: Window, day: NaiveDate) -> Portrait {
    let answer = wechat.simulator.answer(&appid(app), window, day).unwrap();
    let answer = answer.to_string();
    decode::portrait(answer.as_bytes(), window, day)
        .unwrap()
        .portrait
}

fn total(portrait: &Portrait, cohort: Cohort) -> u64 {
    let platforms = portrait.breakdown(cohort, Dimension::Platform);
    platforms.total().unwrap()
}

/// What Prometheus reads of what is usual.
fn usual(metrics: &Page, app: &str, cohort: Cohort) -> Option<f64> {
    metrics.value(
        "wxapp_portrait_expected_cohort_users",
        &[
            ("appid", app),
            ("cohort", cohort.as_str()),
            ("bound", "usual"),
        ],
    )
}

#[tokio::test]
async fn every_figure_of_the_overview_is_that_of_the_archive() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        let mut home = Home::of(&wechat, &[APP, OTHER]);
        home.config["holidays"] = json!({"calendar": "none"});
        home.config["apps"][0]["name"] = json!("商城");
        home.archive(&wechat, &[APP, OTHER], 60);
        let exporter = home.start().await;
        let metrics = exporter.ready().await;
        let html = page(&exporter, "/?lang=zh").await;
        let mut totals = [0; Cohort::ALL.len()];
        for (app, name) in [(APP, "商城"), (OTHER, OTHER)] {
            let row = &rows(&format!("{}</tr>", part(&html, "tr", app)))[0];
            assert!(row[0].starts_with(name), "{row:?}");
            assert!(row[4].contains("确认"), "{row:?}");
            let portrait = portrait(&wechat, app, Window::OneDay, yesterday());
            for (cohort, cell) in Cohort::ALL.into_iter().zip(&row[1..]) {
                let users = total(&portrait, cohort);
                totals[cohort as usize] += users;
                let usual = usual(&metrics, app, cohort).unwrap();
                #[expect(clippy::cast_precision_loss, reason = "there are few users")]
                let change = users as f64 / usual - 1.0;
                let change = wxapp_portrait_exporter::language::change(change);
                let expected = format!("{} {change}", number(users));
                assert!(
                    cell.replace(['▲', '▼'], "").starts_with(&expected),
                    "{cell}: {expected}"
                );
            }
        }
        let html = text(&html);
        assert!(html.contains(&format!("数据日期 {}", Language::Chinese.day(yesterday()))));
        assert!(html.contains("共 2 / 2 个小程序"), "{html}");
        let arrived = format!("{} 的数据已全部到达", yesterday());
        assert!(html.contains(&arrived), "{html}");
        let [new, active] = totals.map(number);
        assert!(html.contains(&format!("新增用户 {new} 较往常")), "{html}");
        assert!(
            html.contains(&format!("活跃用户 {active} 较往常")),
            "{html}"
        );
    })
    .await;
}

#[tokio::test]
async fn every_figure_of_an_app_is_that_of_the_archive() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let mut home = Home::of(&wechat, &[APP]);
        home.config["windows"] = json!(["1d", "7d", "30d"]);
        home.config["holidays"] = json!({"calendar": "none"});
        home.archive(&wechat, &[APP], 60);
        let exporter = home.start().await;
        exporter.ready().await;
        for window in Window::ALL {
            let path = format!("/apps/{APP}?window={window}&lang=en");
            let html = page(&exporter, &path).await;
            let newest = portrait(&wechat, APP, window, yesterday());
            for cohort in Cohort::ALL {
                let headline = text(part(&html, "div", cohort.as_str()));
                let users = number(total(&newest, cohort));
                assert!(headline.contains(&users), "{headline}: {users}");
                // The table behind the chart has every archived day.
                let tables: Vec<_> = html.split("<figure").skip(1).collect();
                let days = rows(tables[cohort as usize]);
                let days = days[1..].iter().map(|row| (row[0].clone(), row[2].clone()));
                let days: BTreeMap<_, _> = days.collect();
                for ago in 0..60 {
                    let day = calendar::days_before(yesterday(), ago);
                    let users = total(&portrait(&wechat, APP, window, day), cohort);
                    let shown = days.get(&Language::English.day(day));
                    assert_eq!(shown, Some(&number(users)), "{window} {cohort} {day}");
                }
                assert_eq!(days.len(), 60, "it begins with the first archived day");
            }
            for dimension in Dimension::ALL {
                let shown = rows(part(&html, "section", dimension.as_str()));
                let shown = shown.into_iter().filter(|row| row[1] != "Active");
                let shown: BTreeMap<String, Vec<String>> = shown
                    .map(|mut row| (row.remove(0).replace(" (unknown)", ""), row))
                    .collect();
                let active = newest.breakdown(Cohort::Active, dimension);
                let new = newest.breakdown(Cohort::New, dimension);
                let names = active.iter().chain(new.iter()).map(|(name, _)| name);
                let names: std::collections::BTreeSet<_> = names.collect();
                assert_eq!(names.len(), shown.len(), "{window} {dimension}");
                for name in names {
                    let row = &shown[name];
                    // A city that is not listed may have users.
                    let users = |breakdown: &Breakdown| {
                        let mut rows = breakdown.iter();
                        let listed = rows.find(|(other, _)| *other == name);
                        let zero = dimension.lists_every_name().then_some(0);
                        let users = listed.map(|(_, users)| users).or(zero);
                        users.map_or("–".to_owned(), number)
                    };
                    assert_eq!(row[0], users(active), "{window} {dimension} {name}");
                    assert_eq!(row[3], users(new), "{window} {dimension} {name}");
                    if dimension.lists_every_name() {
                        #[expect(clippy::cast_precision_loss, reason = "there are few users")]
                        let of_all =
                            active.users_of(name).unwrap() as f64 / active.total().unwrap() as f64;
                        assert_eq!(row[1], share(of_all), "{window} {dimension} {name}");
                    }
                }
            }
            let data = text(part(&html, "section", "data"));
            let first = calendar::days_before(yesterday(), 59);
            let archived = format!("Archived 60 days {first} to {}", yesterday());
            assert!(data.contains(&archived), "{data}");
            assert!(data.contains("Missing no days"), "{data}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_day_that_is_missing_is_a_gap_and_never_zero() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let mut home = Home::of(&wechat, &[APP]);
        home.config["holidays"] = json!({"calendar": "none"});
        let records = wechat.records(APP, Window::OneDay, 40, now());
        let missing = records[20].key.reference_date;
        let rows_of_archive = records
            .iter()
            .filter(|record| record.key.reference_date != missing);
        let rows_of_archive: Vec<_> = rows_of_archive.map(Row::from).collect();
        let mut archive = Store::of_guest(&home.path("data"), Arc::new(now));
        archive.upsert(&rows_of_archive).unwrap();
        let exporter = home.start().await;
        exporter.ready().await;
        let html = page(&exporter, &format!("/apps/{APP}?days=30&lang=zh")).await;
        let figure = html.split("<figure").nth(1).unwrap();
        let days = rows(figure);
        let day = Language::Chinese.day(missing);
        let row = days.iter().find(|row| row[0] == day).unwrap();
        assert_eq!(row[2], "–");
        assert_eq!(days.len(), 1 + 30);
        let data = text(part(&html, "section", "data"));
        assert!(data.contains(&format!("缺失 {missing}")), "{data}");
    })
    .await;
}

/// Names that people and attackers give to apps.
fn odd_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='x",
        "&amp;&lt;",
        "{{ name }} {% raw %}",
        "a\u{202e}txt.exe",
        "شركة",
        "👨‍👩‍👧‍👦🏳️‍🌈",
        "e\u{301}\u{301}\u{301}",
        "-- ; DROP TABLE portraits",
        "\\",
        "100%",
        "a b  c",
    ]
    .map(str::to_owned)
    .into();
    names.push("界".repeat(85));
    names.push("W".repeat(256));
    let base = names.clone();
    while names.len() < 200 {
        let name = format!("{}{}", names.len(), base[names.len() % base.len()]);
        // Longer names are cut off.
        names.push(name[..name.floor_char_boundary(256)].to_owned());
    }
    names
}

#[tokio::test]
async fn two_hundred_odd_names_are_shown_as_they_are() {
    let names = odd_names();
    let appids: Vec<String> = (0..names.len()).map(|app| format!("wx-{app}")).collect();
    let appids: Vec<&str> = appids.iter().map(String::as_str).collect();
    let wechat = WeChat::start(apps_of(&appids), now).await;
    let mut home = Home::of(&wechat, &appids);
    home.config["poll"]["interval"] = json!("1h");
    // Names are all that matters.
    for app in &appids {
        wechat.set_fault(app, "errcode=48001");
    }
    for (app, name) in names.iter().enumerate() {
        home.config["apps"][app]["name"] = json!(name);
    }
    let exporter = home.start().await;
    exporter.ready().await;
    let mut shown = BTreeMap::new();
    let link = Regex::new(r#"<a href="apps/([^"?]+)"><bdi>(.*?)</bdi>"#).unwrap();
    for number in 1..=4 {
        let html = page(&exporter, &format!("/?sort=name&page={number}")).await;
        for found in link.captures_iter(&html) {
            shown.insert(found[1].to_owned(), text(&found[2]));
        }
        assert!(
            !html.contains("<img") && !html.contains("<script>"),
            "{html}"
        );
    }
    for (app, name) in appids.iter().zip(&names) {
        let expected = name.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(shown[*app], expected, "{app}");
    }
    for app in [0, 1, 2, 13, 14] {
        let html = page(&exporter, &format!("/apps/{}", appids[app])).await;
        assert!(
            !html.contains("<img") && !html.contains("<script>"),
            "{html}"
        );
        assert!(text(&html).contains(names[app].trim()), "{html}");
    }
}

#[tokio::test]
async fn two_hundred_odd_names_of_figures_are_shown_as_they_are() {
    let wechat = WeChat::of(&[APP]).await;
    wechat.set_fault(APP, "http=502");
    let home = Home::of(&wechat, &[APP]);
    let names = odd_names();
    let records = wechat.records(APP, Window::OneDay, 9, now()).into_iter();
    let rows_of_archive = records.map(|mut record| {
        let mut answer: serde_json::Value = serde_json::from_str(&record.answer).unwrap();
        for (dimension, names) in [("devices", &names[..]), ("platforms", &names[..5])] {
            for name in names {
                let row = json!({"id": 9, "name": name, "value": 7});
                answer["visit_uv"][dimension]
                    .as_array_mut()
                    .unwrap()
                    .push(row);
            }
        }
        record.answer = answer.to_string();
        Row::from(&record)
    });
    let rows_of_archive: Vec<_> = rows_of_archive.collect();
    let mut archive = Store::of_guest(&home.path("data"), Arc::new(now));
    archive.upsert(&rows_of_archive).unwrap();
    let exporter = home.start().await;
    exporter.ready().await;
    let html = page(&exporter, &format!("/apps/{APP}?lang=en")).await;
    assert!(
        !html.contains("<img") && !html.contains("<script>"),
        "{html}"
    );
    for (dimension, names) in [("device", &names[..]), ("platform", &names[..5])] {
        let shown = rows(part(&html, "section", dimension));
        let shown: BTreeMap<&str, &str> = shown.iter().map(|row| (&*row[0], &*row[1])).collect();
        for name in names {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(shown.get(&*name), Some(&"7"), "{dimension} {name}");
        }
    }
}

#[tokio::test]
async fn apps_are_found_sorted_and_paged_without_a_script() {
    let appids: Vec<String> = (0..120).map(|app| format!("wx-{app:03}")).collect();
    let appids: Vec<&str> = appids.iter().map(String::as_str).collect();
    let wechat = WeChat::start(apps_of(&appids), now).await;
    wechat.set_fault(appids[77], "errcode=40125");
    let mut home = Home::of(&wechat, &appids);
    home.config["poll"]["interval"] = json!("1h");
    home.config["apps"][5]["name"] = json!("点餐 Shop");
    let exporter = home.start().await;
    exporter.ready().await;
    let listed = async |path: &str| {
        let html = page(&exporter, path).await;
        let row = Regex::new(r#"<tr id="([^"]+)""#).unwrap();
        let rows = row.captures_iter(&html).map(|found| found[1].to_owned());
        rows.collect::<Vec<_>>()
    };
    let first = listed("/").await;
    assert_eq!(first.len(), 50);
    assert_eq!(first[0], appids[77], "what fails is first");
    assert_eq!(listed("/?q=%E7%82%B9%E9%A4%90").await, [appids[5]]);
    assert_eq!(listed("/?q=+sHOP").await, [appids[5]]);
    assert_eq!(listed("/?q=wx-11").await.len(), 10);
    assert_eq!(listed("/?show=failures").await, [appids[77]]);
    assert_eq!(listed("/?q=nothing").await, [""; 0]);
    let all = [
        listed("/?sort=name").await,
        listed("/?sort=name&page=2").await,
        listed("/?sort=name&page=3").await,
    ];
    assert_eq!(all.each_ref().map(Vec::len), [50, 50, 20]);
    let all = all.concat();
    assert!(all[..119].is_sorted(), "the one with a name is last");
    // What is not valid is as if it were not there.
    for path in ["/?page=x&sort=x&show=x&lang=x", "/?page=0", "/?%"] {
        assert_eq!(listed(path).await.len(), 50, "{path}");
    }
    assert_eq!(listed("/?page=99999999").await.len(), 20);
    // Links keep what was chosen.
    let html = page(&exporter, "/?q=wx&sort=new&lang=zh&page=2").await;
    assert!(
        html.contains(r#"href="?q=wx&#38;sort=new&#38;page=3&#38;lang=zh""#),
        "{html}"
    );
    assert!(
        html.contains(r#"href="?q=wx&#38;sort=new&#38;page=2&#38;lang=en""#),
        "{html}"
    );
}

#[tokio::test]
async fn trouble_is_one_sentence_for_an_app() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        wechat.set_fault(APP, "errcode=40164");
        let mut home = Home::of(&wechat, &[APP]);
        home.config["windows"] = json!(["1d", "7d", "30d"]);
        let exporter = home.start().await;
        exporter.ready().await;
        for path in ["/", &format!("/apps/{APP}")] {
            let html = text(&page(&exporter, &format!("{path}?lang=en")).await);
            let sentence = "add 61.183.89.14 to the IP allow-list of the app";
            assert_eq!(html.matches(sentence).count(), 1, "{html}");
            let html = text(&page(&exporter, &format!("{path}?lang=zh")).await);
            let sentence = "出口 IP 61.183.89.14 不在白名单";
            assert_eq!(html.matches(sentence).count(), 1, "{html}");
        }
    })
    .await;
}

#[tokio::test]
async fn pages_have_the_language_of_the_browser_unless_another_is_chosen() {
    let wechat = WeChat::of(&[APP]).await;
    let exporter = Home::of(&wechat, &[APP]).start().await;
    let app = format!("/apps/{APP}");
    for (path, accepted, expected) in [
        ("/", "zh-CN,zh;q=0.9", "zh-CN"),
        ("/", "en-GB", "en"),
        ("/", "", "en"),
        ("/?lang=en", "zh-CN", "en"),
        (&*format!("{app}?lang=zh"), "en", "zh-CN"),
        (&app, "zh", "zh-CN"),
    ] {
        let url = format!("{}{path}", exporter.url);
        let request = crate::harness::client()
            .get(url)
            .header("accept-language", accepted)
            .header("accept-encoding", "gzip");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let headers = answer.headers().clone();
        assert_eq!(headers["content-language"], expected, "{path} {accepted}");
        assert_eq!(headers["content-encoding"], "gzip");
        assert_eq!(headers["cache-control"], "no-cache");
        assert_eq!(headers["vary"], "accept-encoding, accept-language");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(!policy.contains("unsafe"), "{policy}");
        let html = crate::web::inflate(&answer.bytes().await.unwrap());
        assert!(
            html.contains(&format!("<html lang=\"{expected}\">")),
            "{html}"
        );
        // Nothing that the policy forbids.
        assert!(
            !html.contains(" style=") && !html.contains("<style"),
            "{html}"
        );
    }
    let html = page(&exporter, "/").await;
    let asset = Regex::new(r#"(?:href|src)="(assets/[^"]+)""#).unwrap();
    let assets: Vec<_> = asset
        .captures_iter(&html)
        .map(|found| found[1].to_owned())
        .collect();
    assert_eq!(assets.len(), 2);
    for asset in assets {
        let answer = exporter.ask("GET", &format!("/{asset}"), "gzip").await;
        assert_eq!(answer.status(), 200);
        let cache = &answer.headers()["cache-control"];
        assert_eq!(cache, "max-age=31536000, immutable", "{asset}");
    }
    let old = exporter.ask("GET", "/assets/0/pages.css", "gzip").await;
    assert_eq!(old.headers()["cache-control"], "no-cache");
    assert_eq!(exporter.get("/assets/0/pages.php").await.0, 404);
    let (status, html) = exporter.get("/apps/wx-unknown?lang=zh").await;
    assert_eq!(status, 404);
    assert!(text(&html).contains("wx-unknown 不在配置中"), "{html}");
}
