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
pub fn advice(reason: Reason, errcode: Option<i64>, problem: &str) -> String {
    let text = match errcode {
        Some(40013) => Some("没有这个 AppID，请检查大小写和空格。"),
        Some(40234 | 40235) => Some("小程序开启了 API 加密，请为此接口关闭，或改用云函数。"),
        Some(40243) => Some("AppSecret 已冻结，请解冻，或改用其他认证方式。"),
        Some(61502) => Some("微信没有这个小程序的画像；小游戏没有画像。"),
        Some(89501 | 89503) => Some("出口 IP 须由小程序管理员在微信中确认。"),
        Some(89506 | 89507) => Some("小程序管理员拒绝了出口 IP，请先联系管理员；到时自动重试。"),
        _ => None,
    };
    text.map_or_else(|| advice_on(reason, problem), str::to_owned)
}

fn advice_on(reason: Reason, problem: &str) -> String {
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
            let address = address.map_or(" ".to_owned(), |address| format!(" {address} "));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_the_error_code_where_the_reason_is_too_general() {
        let list = "add 203.0.113.7 to the IP allow-list of the app (errcode 40164)";
        for (errcode, problem, words) in [
            (Some(89503), "", "管理员在微信中确认"),
            (Some(89507), "", "管理员拒绝了"),
            (Some(40164), list, "出口 IP 203.0.113.7 不在白名单"),
            (Some(61004), "", "出口 IP 不在白名单"),
            (None, "", "出口 IP 不在白名单"),
        ] {
            let advice = advice(Reason::IpNotAllowed, errcode, problem);
            assert!(advice.contains(words), "{errcode:?}: {advice}");
        }
    }
}
