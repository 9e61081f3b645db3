//! What failures mean and what to do about them, in Chinese, for pages and terminals. The English sentence of a
//! [`super::Diagnosis`] is more precise; it is shown as well.

use std::net::IpAddr;

use super::errcodes::Reason;

/// Returns the name of a reason.
#[must_use]
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::NotReady => "数据尚未生成",
        Reason::Empty => "返回空数据",
        Reason::Busy => "微信系统繁忙",
        Reason::RateLimited => "调用过于频繁",
        Reason::Quota => "调用次数用完",
        Reason::Token => "令牌无效",
        Reason::Credentials => "AppSecret 有误",
        Reason::IpNotAllowed => "IP 不在白名单",
        Reason::Permission => "没有接口权限",
        Reason::DateRange => "日期不被接受",
        Reason::Transport => "网络请求失败",
        Reason::Decode => "返回内容无法识别",
        Reason::Configuration => "配置不可用",
        Reason::Other => "其他错误",
    }
}

/// Returns what happened and what to do; `problem` is the English sentence, which may name an address.
#[must_use]
pub fn advice(reason: Reason, problem: &str) -> String {
    let text = match reason {
        Reason::NotReady | Reason::Empty => "昨日数据尚未生成，稍后自动重试。",
        Reason::Busy => "微信系统繁忙，稍后自动重试，一般无需处理。",
        Reason::RateLimited => {
            "调用过于频繁，已自动延后重试；若经常出现，请调大配置项 poll.interval。"
        }
        Reason::Quota => {
            "今日接口调用次数已用完，明日自动恢复；请检查是否有其他程序在调用同一接口。"
        }
        Reason::Token => "未能取得有效的 access_token，请检查该小程序的令牌来源。",
        Reason::Credentials => {
            "AppID 或 AppSecret 有误，请在微信公众平台「开发管理 › 开发设置」核对是否已重置。"
        }
        Reason::IpNotAllowed => {
            let mut words = problem.split([' ', ',', ';']);
            let address = words.find_map(|word| word.parse::<IpAddr>().ok());
            let address = address.map_or(String::new(), |address| format!(" {address} "));
            return format!(
                "出口 IP{address}不在白名单，请到微信公众平台「开发管理 › 开发设置」添加。"
            );
        }
        Reason::Permission => {
            "该小程序没有调用此接口的权限，请在微信公众平台「开发管理 › 接口设置」开通。"
        }
        Reason::DateRange => "微信不接受所请求的日期，请检查服务器时间是否准确。",
        Reason::Transport => "网络请求失败，请检查网络、DNS 与代理；恢复后自动重试。",
        Reason::Decode => "返回内容无法识别，请检查中间的代理或数据来源。",
        Reason::Configuration => "该小程序的配置或密钥文件不可用，请按详情修正。",
        Reason::Other => "微信返回了未收录的错误码，请查看详情。",
    };
    text.to_owned()
}
