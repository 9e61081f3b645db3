//! What WeChat's error codes mean: under which reason they are counted, when to ask again, and
//! what the operator must hear.
//!
//! Codes as documented at `developers.weixin.qq.com/miniprogram/dev/framework/server-ability/`
//! and as reported by people who met them. Knows nothing of HTTP.

use std::time::Duration;

use super::Endpoint;
use crate::portrait::spelled;

spelled! {
    /// Why a poll brought no portrait, as a label value.
    Reason, "reason" {
        /// WeChat says that the day is not computed yet.
        NotReady = "not_ready",
        /// The portrait has no figure, which means the same.
        Empty = "empty",
        /// WeChat is busy.
        Busy = "busy",
        /// Too many requests in a minute.
        RateLimited = "rate_limited",
        /// The quota of the day is used up.
        Quota = "quota",
        /// No usable token: refused even when new, not given by its source, or lost on the way.
        Token = "token",
        /// The AppSecret is wrong, frozen or not given.
        Credentials = "credentials",
        /// The address of the exporter is not allowed.
        IpNotAllowed = "ip_not_allowed",
        /// The app, or the API for it, is not authorised.
        Permission = "permission",
        /// The dates are refused.
        DateRange = "date_range",
        /// No answer, or only part of one.
        Transport = "transport",
        /// An answer that is none.
        Decode = "decode",
        /// Something must be set up otherwise, here, at WeChat or in a cloud function.
        Configuration = "configuration",
        /// Anything else.
        Other = "other",
    }
}

/// When it makes sense to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// At the next poll, as if nothing had happened.
    NextPoll,
    /// In a moment and a few times, then at the next poll.
    Soon,
    /// Once with a new token, then at the next poll.
    NewToken,
    /// Not for this day of portraits as long as the Beijing day lasts.
    OtherDay,
    /// At the next poll after this time: a human has to mend something first.
    After(Duration),
    /// At the first poll of the next Beijing day.
    Tomorrow,
}

/// What a refused request asked for and carried, where that makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A token, with the AppSecret.
    Secret,
    /// A portrait, with a token that the AppSecret bought.
    OwnToken,
    /// A portrait, with a token from elsewhere.
    GivenToken,
    /// A portrait, with the token that the sidecar of cloud hosting adds.
    CloudHosting,
    /// A portrait, from an address that is not WeChat's.
    PortraitUrl,
}

/// Where in WeChat's consoles something is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// AppSecret, addresses, encryption.
    Settings,
    /// Which APIs the app may use.
    Permissions,
    /// Cloud functions.
    Functions,
    /// Cloud hosting.
    Hosting,
}

impl Asked {
    /// Returns what is mostly asked for at an endpoint.
    #[must_use]
    pub const fn at(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Token => Self::Secret,
            Endpoint::Portrait | Endpoint::Function => Self::OwnToken,
        }
    }
}

impl Place {
    /// Returns the way to it, as the consoles name its steps.
    #[must_use]
    pub const fn way(self) -> &'static str {
        match self {
            Self::Settings => "mp.weixin.qq.com › 开发管理 › 开发设置",
            Self::Permissions => "mp.weixin.qq.com › 开发管理 › 接口设置",
            Self::Functions => "WeChat developer tools › 云开发 › 云函数",
            Self::Hosting => "cloud.weixin.qq.com › 云托管 › 云调用",
        }
    }
}

/// What to do about some error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The codes that it is about.
    pub errcodes: &'static [i64],
    /// Under what they are counted.
    pub reason: Reason,
    /// When to ask again.
    pub then: Then,
    /// One sentence for the operator; `{ip}` stands for the address that WeChat saw, `{peer}` for who
    /// refused.
    pub advice: &'static str,
    /// Where it is mended, if that is in one of WeChat's consoles.
    pub place: Option<Place>,
}

impl Rule {
    const fn new(
        errcodes: &'static [i64],
        reason: Reason,
        then: Then,
        advice: &'static str,
    ) -> Self {
        Self {
            errcodes,
            reason,
            then,
            advice,
            place: None,
        }
    }

    /// Names the place where it is mended.
    const fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }
}

const HOUR: Then = Then::After(Duration::from_hours(1));
const DAY: Then = Then::After(Duration::from_hours(24));

const fn minutes(minutes: u64) -> Then {
    Then::After(Duration::from_mins(minutes))
}

/// What to do about every error code that is known.
pub const RULES: &[Rule] = &[
    Rule::new(
        &[-1, 61504],
        Reason::Busy,
        Then::Soon,
        "WeChat is busy; nothing to do, it is asked again",
    ),
    Rule::new(
        &[61503],
        Reason::NotReady,
        Then::NextPoll,
        "not computed yet; normal before 10:00, possible until 15:00 Beijing time",
    ),
    Rule::new(
        &[61501],
        Reason::DateRange,
        Then::OtherDay,
        "the date is refused: WeChat answers only for yesterday and the day before; check the clock of this host",
    ),
    Rule::new(
        &[61500, 43002, 44002, 47001, 40002],
        Reason::Other,
        HOUR,
        "WeChat could not read the request: a bug in this exporter, or a proxy in between changes requests",
    ),
    Rule::new(
        &[61502],
        Reason::Permission,
        DAY,
        "WeChat has no portraits for this app; it refuses mini games",
    ),
    Rule::new(
        TOKEN_REFUSED,
        Reason::Token,
        Then::NewToken,
        "WeChat refuses even a new token: another program fetches tokens with cgi-bin/token or force_refresh, or the secret is of another app",
    ),
    Rule::new(
        &[41001],
        Reason::Token,
        Then::NextPoll,
        "no token reached WeChat: a proxy in between may cut the query off",
    ),
    Rule::new(
        &[40013],
        Reason::Configuration,
        HOUR,
        "WeChat knows no such appid: check it for upper and lower case and for blanks",
    ),
    Rule::new(
        &[40125],
        Reason::Credentials,
        HOUR,
        "the AppSecret is wrong or was reset: set the new one; a changed secret_file is noticed within a minute",
    )
    .at(Place::Settings),
    Rule::new(
        &[40243],
        Reason::Credentials,
        minutes(10),
        "the AppSecret is frozen: unfreeze it, or use another access",
    )
    .at(Place::Settings),
    Rule::new(
        &[41002, 41004],
        Reason::Configuration,
        HOUR,
        "appid or AppSecret did not reach WeChat: check the configuration",
    ),
    Rule::new(
        &[40164, 61004],
        Reason::IpNotAllowed,
        minutes(5),
        "add {ip} to the IP allow-list of the app",
    )
    .at(Place::Settings),
    Rule::new(
        &[89501, 89503],
        Reason::IpNotAllowed,
        minutes(10),
        "the administrator of the app must confirm {ip}: WeChat has sent them a message",
    ),
    Rule::new(
        &[89506],
        Reason::IpNotAllowed,
        DAY,
        "the administrator of the app refused this address twice; it is asked again in 24 hours",
    ),
    Rule::new(
        &[89507],
        Reason::IpNotAllowed,
        HOUR,
        "the administrator of the app refused this address; it is asked again in an hour",
    ),
    Rule::new(
        &[45009],
        Reason::Quota,
        Then::Tomorrow,
        "the daily quota of WeChat is used up; find out who else polls this app, it is asked again after midnight Beijing time",
    ),
    Rule::new(
        &[45011],
        Reason::RateLimited,
        minutes(1),
        "too many requests in a minute; raise poll.interval",
    ),
    Rule::new(
        &[48001, 48004, 50001, 50002, 50004, 61003, 61007],
        Reason::Permission,
        DAY,
        "the app may not use this API, or is blocked: check its state and permissions; a third-party platform needs permission set 18",
    )
    .at(Place::Permissions),
    Rule::new(
        &[40234, 40235],
        Reason::Configuration,
        HOUR,
        "the app has API encryption switched on: switch it off for this API, or use a cloud function",
    )
    .at(Place::Settings),
    Rule::new(
        &[85088, 40101, -1000],
        Reason::Configuration,
        HOUR,
        "the cloud function could not be called: check its environment and name in the configuration",
    )
    .at(Place::Functions),
    Rule::new(
        &[-604_101],
        Reason::Permission,
        minutes(10),
        "the cloud function may not call openapi.analysis.getUserPortrait: list it in config.json of the function, and wait 10 minutes",
    )
    .at(Place::Functions),
    Rule::new(
        &[-604_102, -604_103],
        Reason::Busy,
        Then::Soon,
        "the cloud function ran out of time or is busy; it is asked again",
    ),
    Rule::new(
        &[-604_100, -604_104],
        Reason::Configuration,
        HOUR,
        "the cloud function failed inside: read its log",
    )
    .at(Place::Functions),
];

/// Codes that mean something else for requests of one kind. What is done about them is as usual, except
/// for those of the AppSecret.
pub const EXCEPTIONS: &[(Asked, Rule)] = &[
    (
        Asked::Secret,
        Rule::new(
            TOKEN_REFUSED,
            Reason::Credentials,
            HOUR,
            "WeChat refuses the AppSecret: set the one shown in its console",
        )
        .at(Place::Settings),
    ),
    (
        Asked::GivenToken,
        Rule::new(
            TOKEN_REFUSED,
            Reason::Token,
            Then::NewToken,
            "WeChat refuses the token, also after it was asked for again: its source must give the current one of this very app, and token_parameter suit its kind",
        ),
    ),
    (
        Asked::GivenToken,
        Rule::new(
            &[41001],
            Reason::Token,
            Then::NextPoll,
            "no token reached WeChat: check token_parameter; a proxy in between may cut the query off",
        ),
    ),
    (
        Asked::CloudHosting,
        Rule::new(
            &[41001],
            Reason::Token,
            Then::NextPoll,
            "nobody added a token: run the exporter inside cloud hosting, switch the open API service on, and allow /datacube/getweanalysisappiduserportrait there",
        )
        .at(Place::Hosting),
    ),
    (
        Asked::CloudHosting,
        Rule::new(
            TOKEN_REFUSED,
            Reason::Token,
            Then::NewToken,
            "WeChat refuses the token that cloud hosting added: check that the environment belongs to this app",
        )
        .at(Place::Hosting),
    ),
    (
        Asked::PortraitUrl,
        Rule::new(
            TOKEN_REFUSED,
            Reason::Token,
            Then::NewToken,
            "WeChat refuses the token that portrait_url used: what answers there must renew its token",
        ),
    ),
];

/// What WeChat says of a token that it does not take.
const TOKEN_REFUSED: &[i64] = &[40001, 40014, 42001];

const UNKNOWN: Rule = Rule::new(
    &[],
    Reason::Other,
    Then::NextPoll,
    "{peer} refuses for a reason that this exporter does not know",
);

/// Returns what to do about an error code that was answered to a request of one kind.
#[must_use]
pub fn rule(asked: Asked, errcode: i64) -> Rule {
    let of_kind = EXCEPTIONS.iter().filter(|(kind, _)| *kind == asked);
    of_kind
        .map(|(_, rule)| rule)
        .chain(RULES)
        .find(|rule| rule.errcodes.contains(&errcode))
        .copied()
        .unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_has_two_rules() {
        let mut codes: Vec<i64> = RULES
            .iter()
            .flat_map(|rule| rule.errcodes)
            .copied()
            .collect();
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }

    #[test]
    fn what_is_done_follows_from_the_endpoint_alone() {
        let of_portraits = EXCEPTIONS
            .iter()
            .filter(|(asked, _)| *asked != Asked::Secret);
        for (asked, exception) in of_portraits {
            for errcode in exception.errcodes {
                let usual = rule(Asked::at(Endpoint::Portrait), *errcode);
                let found = rule(*asked, *errcode);
                assert_eq!((found.reason, found.then), (usual.reason, usual.then));
            }
        }
    }

    #[test]
    fn a_refused_token_is_replaced_but_a_refused_secret_is_not_tried_again() {
        assert_eq!(rule(Asked::OwnToken, 40001).then, Then::NewToken);
        assert_eq!(rule(Asked::Secret, 40001).reason, Reason::Credentials);
        assert_eq!(rule(Asked::Secret, 40001).then, HOUR);
    }

    #[test]
    fn an_unknown_code_is_told_as_such() {
        assert_eq!(rule(Asked::OwnToken, 12345).reason, Reason::Other);
    }
}
