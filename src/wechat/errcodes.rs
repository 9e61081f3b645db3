//! What WeChat's error codes mean: the reason they are counted under, when to retry, and what to
//! advise the operator.
//!
//! Codes as documented at `developers.weixin.qq.com/miniprogram/dev/framework/server-ability/`
//! and as reported by users who encountered them. Does not depend on HTTP.

use std::time::Duration;

use crate::portrait::string_enum;

string_enum! {
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
        /// No usable token: refused even when new, not given by its source, or lost in between.
        Token = "token",
        /// The AppSecret is wrong, frozen or not given.
        Credentials = "credentials",
        /// The address of the exporter is not allowed.
        IpNotAllowed = "ip_not_allowed",
        /// The app, or the API for it, is not authorised.
        Permission = "permission",
        /// The dates are refused.
        DateRange = "date_range",
        /// No response, or only part of one.
        Transport = "transport",
        /// A response that could not be parsed.
        Decode = "decode",
        /// Something is configured wrong, here, at WeChat or in a cloud function.
        Configuration = "configuration",
        /// Anything else.
        Other = "other",
    }
}

/// When to request a portrait again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// At the next poll, as if nothing had happened.
    NextPoll,
    /// After a short pause and a few times, then at the next poll.
    Soon,
    /// Once with a new token, then at the next poll.
    NewToken,
    /// Not for this reference date as long as the Beijing day lasts.
    OtherDay,
    /// At the first poll after this time: an operator has to change something first.
    After(Duration),
    /// At the first poll of the next Beijing day.
    Tomorrow,
}

/// What a request carried to authenticate the app, which decides what to advise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// The AppSecret, to get a token.
    AppSecret,
    /// A token that WeChat issued for the AppSecret.
    OwnToken,
    /// A token from `token_file`, `token_url` or `token_command`.
    GivenToken,
    /// The token that the sidecar of cloud hosting adds.
    CloudHosting,
    /// Whatever `portrait_url` uses.
    PortraitUrl,
    /// Whatever `token_url` uses to get a token.
    TokenUrl,
}

/// A page of WeChat's consoles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsolePage {
    /// AppSecret, IP allow-list, encryption.
    Settings,
    /// Which APIs the app may use.
    Permissions,
    /// Cloud functions.
    Functions,
    /// Cloud hosting.
    Hosting,
}

impl ConsolePage {
    /// Returns the menu items that lead to it, as the consoles name them.
    #[must_use]
    pub const fn breadcrumb(self) -> &'static str {
        match self {
            Self::Settings => "mp.weixin.qq.com › 开发管理 › 开发设置",
            Self::Permissions => "mp.weixin.qq.com › 开发管理 › 接口设置",
            Self::Functions => "WeChat developer tools › 云开发 › 云函数",
            Self::Hosting => "cloud.weixin.qq.com › 云托管 › 云调用",
        }
    }
}

/// What to advise the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// One sentence; `{ip}` stands for the address that WeChat saw, `{peer}` for who refused.
    pub text: &'static str,
    /// The page where the setting is, if it is in one of WeChat's consoles.
    pub page: Option<ConsolePage>,
}

impl Advice {
    const fn new(text: &'static str) -> Self {
        Self { text, page: None }
    }

    const fn at(self, page: ConsolePage) -> Self {
        Self {
            page: Some(page),
            ..self
        }
    }
}

/// How a group of error codes is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The codes that it applies to.
    pub errcodes: &'static [i64],
    /// The reason they are counted under.
    pub reason: Reason,
    /// When to request again.
    pub retry: Retry,
    /// What to advise, unless [`EXCEPTIONS`] has something more specific.
    pub advice: Advice,
}

impl Rule {
    const fn new(
        errcodes: &'static [i64],
        reason: Reason,
        retry: Retry,
        advice: &'static str,
    ) -> Self {
        Self {
            errcodes,
            reason,
            retry,
            advice: Advice::new(advice),
        }
    }

    /// Names the page where the setting is.
    const fn at(self, page: ConsolePage) -> Self {
        Self {
            advice: self.advice.at(page),
            ..self
        }
    }
}

/// More specific advice for requests with one kind of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// What the requests carried.
    pub credential: Credential,
    /// The codes that it applies to.
    pub errcodes: &'static [i64],
    /// What to advise instead.
    pub advice: Advice,
}

const HOUR: Retry = Retry::After(Duration::from_hours(1));
const DAY: Retry = Retry::After(Duration::from_hours(24));

const fn minutes(minutes: u64) -> Retry {
    Retry::After(Duration::from_mins(minutes))
}

/// What an operator reads of a day without figures.
pub const NOT_COMPUTED: &str = "not computed yet: the portrait of yesterday is computed by 10:00, sometimes 15:00 Beijing time; \
     that of an older day stays empty if the app had no users";

/// The rules for all known error codes.
pub const RULES: &[Rule] = &[
    Rule::new(
        &[-1, 61504],
        Reason::Busy,
        Retry::Soon,
        "WeChat is busy; nothing to do, the exporter retries",
    ),
    Rule::new(
        &[61503],
        Reason::NotReady,
        Retry::NextPoll,
        NOT_COMPUTED,
    ),
    Rule::new(
        &[61501],
        Reason::DateRange,
        Retry::OtherDay,
        "the date is refused: WeChat has only yesterday and the day before; check the clock of this host",
    ),
    Rule::new(
        &[61500, 43002, 44002, 47001, 40002],
        Reason::Other,
        HOUR,
        "WeChat could not read the request: a bug in this exporter, or a proxy changes requests",
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
        Retry::NewToken,
        "WeChat refuses even a new token: another program fetches tokens with cgi-bin/token or force_refresh, or the secret is of another app",
    ),
    Rule::new(
        &[41001],
        Reason::Token,
        Retry::NextPoll,
        "no token reached WeChat: a proxy may cut the query off",
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
    .at(ConsolePage::Settings),
    Rule::new(
        &[40243],
        Reason::Credentials,
        minutes(10),
        "the AppSecret is frozen: unfreeze it, or use another access",
    )
    .at(ConsolePage::Settings),
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
    .at(ConsolePage::Settings),
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
        "the administrator of the app refused this address twice; the exporter retries in 24 hours",
    ),
    Rule::new(
        &[89507],
        Reason::IpNotAllowed,
        HOUR,
        "the administrator of the app refused this address; the exporter retries in an hour",
    ),
    Rule::new(
        &[45009],
        Reason::Quota,
        Retry::Tomorrow,
        "the daily quota of WeChat is used up; find out who else polls this app, the exporter retries after midnight Beijing time",
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
    .at(ConsolePage::Permissions),
    Rule::new(
        &[40234, 40235],
        Reason::Configuration,
        HOUR,
        "the app has API encryption switched on: switch it off for this API, or use a cloud function",
    )
    .at(ConsolePage::Settings),
    Rule::new(
        &[85088, 40101, -1000],
        Reason::Configuration,
        HOUR,
        "the cloud function could not be called: check its environment and name in the configuration",
    )
    .at(ConsolePage::Functions),
    Rule::new(
        &[-604_101],
        Reason::Permission,
        minutes(10),
        "the cloud function may not call openapi.analysis.getUserPortrait: list it in config.json of the function, and wait 10 minutes",
    )
    .at(ConsolePage::Functions),
    Rule::new(
        &[-604_102, -604_103],
        Reason::Busy,
        Retry::Soon,
        "the cloud function ran out of time or is busy; the exporter retries",
    ),
    Rule::new(
        &[-604_100, -604_104],
        Reason::Configuration,
        HOUR,
        "the cloud function failed inside: read its log",
    )
    .at(ConsolePage::Functions),
];

/// The rule for a refused token where one was requested with the AppSecret: the codes mean the
/// AppSecret then, and repeating the request would not help.
pub const APP_SECRET_REFUSED: Rule = Rule::new(
    TOKEN_REFUSED,
    Reason::Credentials,
    HOUR,
    "WeChat refuses the AppSecret: set the one shown in its console",
)
.at(ConsolePage::Settings);

/// Advice that depends on the credential. The reason and the retry never do.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        credential: Credential::GivenToken,
        errcodes: TOKEN_REFUSED,
        advice: Advice::new(
            "WeChat refuses the token, also after it was requested again: its source must give the current one of this very app, and token_parameter suit its kind",
        ),
    },
    Exception {
        credential: Credential::GivenToken,
        errcodes: &[41001],
        advice: Advice::new(
            "no token reached WeChat: check token_parameter; a proxy may cut the query off",
        ),
    },
    Exception {
        credential: Credential::CloudHosting,
        errcodes: &[41001],
        advice: Advice::new(
            "no token was added: run the exporter inside cloud hosting, switch the open API service on, and allow /datacube/getweanalysisappiduserportrait there",
        )
        .at(ConsolePage::Hosting),
    },
    Exception {
        credential: Credential::CloudHosting,
        errcodes: TOKEN_REFUSED,
        advice: Advice::new(
            "WeChat refuses the token that cloud hosting added: check that the environment belongs to this app",
        )
        .at(ConsolePage::Hosting),
    },
    Exception {
        credential: Credential::PortraitUrl,
        errcodes: TOKEN_REFUSED,
        advice: Advice::new(
            "WeChat refuses the token that portrait_url used: what responds there must renew its token",
        ),
    },
];

/// The codes for a token that is invalid or expired.
const TOKEN_REFUSED: &[i64] = &[40001, 40014, 42001];

const UNKNOWN: Rule = Rule::new(
    &[],
    Reason::Other,
    Retry::NextPoll,
    "{peer} refuses for a reason that this exporter does not know",
);

/// Returns the rule for an error code that a request with this credential got.
#[must_use]
pub fn rule(credential: Credential, errcode: i64) -> Rule {
    let mut rule = RULES
        .iter()
        .find(|rule| rule.errcodes.contains(&errcode))
        .copied()
        .unwrap_or(UNKNOWN);
    if credential == Credential::AppSecret && TOKEN_REFUSED.contains(&errcode) {
        rule = APP_SECRET_REFUSED;
    }
    let exception = EXCEPTIONS.iter().find(|exception| {
        exception.credential == credential && exception.errcodes.contains(&errcode)
    });
    if let Some(exception) = exception {
        rule.advice = exception.advice;
    }
    rule
}

/// Returns `true` if there is a rule for an error code.
#[must_use]
pub fn is_known(errcode: i64) -> bool {
    RULES.iter().any(|rule| rule.errcodes.contains(&errcode))
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
    fn a_refused_token_is_replaced_but_a_refused_secret_is_not_retried() {
        let own_token = rule(Credential::OwnToken, 40001);
        assert_eq!(own_token.retry, Retry::NewToken);
        let secret = rule(Credential::AppSecret, 40001);
        assert_eq!((secret.reason, secret.retry), (Reason::Credentials, HOUR));
    }

    #[test]
    fn an_unknown_code_is_other() {
        assert_eq!(rule(Credential::OwnToken, 12345).reason, Reason::Other);
        assert!(!is_known(12345) && is_known(-604_101));
    }
}
