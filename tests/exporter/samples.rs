//! The two sample answers of WeChat's documentation, as exposed to Prometheus.

use wxapp_portrait_exporter::portrait::Window;

use crate::harness::{APP, Hand, Inside, fake_wechat};

/// What both samples say: cohort, dimension, name, users.
const FIGURES: [(&str, &str, &str, u32); 12] = [
    ("new", "province", "广东省", 215),
    ("new", "city", "广州", 78),
    ("new", "gender", "男", 2146),
    ("new", "platform", "iPhone", 27642),
    ("new", "device", "OPPO R9", 61),
    ("new", "age", "17岁以下", 151),
    ("active", "province", "广东省", 1341),
    ("active", "city", "广州", 234),
    ("active", "gender", "男", 14534),
    ("active", "platform", "iPhone", 21750),
    ("active", "device", "OPPO R9", 617),
    ("active", "age", "17岁以下", 3156),
];

/// Lets an exporter request a day whose sample is served; checks the result.
async fn shown(sample: &str, window: Window, day: &str, midnight: f64) {
    let day = day.parse().unwrap();
    let (base_url, _stop) = fake_wechat(day, sample.to_owned()).await;
    // Noon in Beijing on the next day.
    let hand = Hand::at(&format!("{}T04:00:00Z", day.succ_opt().unwrap()));
    let inside = Inside::start(&base_url, &[APP], &hand).await;
    let _polling = inside.poll(APP, window).await;
    let page = inside.ready().await;
    let expected = FIGURES.map(|(cohort, dimension, name, users)| {
        format!(
            "wxapp_portrait_users{{appid=\"{APP}\",window=\"{window}\",cohort=\"{cohort}\",\
             dimension=\"{dimension}\",name=\"{name}\"}} {users}"
        )
    });
    assert_eq!(page.users(None), expected);
    let reference_date = page.value("wxapp_portrait_reference_date_timestamp_seconds", &[]);
    assert_eq!(reference_date, Some(midnight));
}

#[tokio::test]
async fn the_sample_of_the_https_call_becomes_its_series() {
    let sample = include_str!("../samples/portrait-https.json");
    // Requested for 20170611-20170617, and dated with the first of these days.
    shown(sample, Window::SevenDays, "2017-06-17", 1_497_628_800.0).await;
    shown(sample, Window::OneDay, "2017-06-11", 1_497_110_400.0).await;
}

#[tokio::test]
async fn the_sample_of_the_cloud_call_becomes_its_series() {
    let sample = include_str!("../samples/portrait-cloud-call.json");
    shown(sample, Window::OneDay, "2017-06-11", 1_497_110_400.0).await;
}
