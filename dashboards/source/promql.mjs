// The parts of queries that several panels share.
//
// Two exporters may serve an app: those count that know its newest day, and of what they say the maximum, so that
// nobody is counted twice and no two days are mixed.

/** Joins matchers; those that are undefined are left out. */
const matchers = (...all) => all.filter(Boolean).join(', ');

const equals = (label, value) => value && `${label}="${value}"`;

/** Users by dimension and name; `app` is a matcher of the app. */
export const users = ({ app, window = '1d', cohort, dimension }) =>
  `wxapp_portrait_users{${matchers(app, equals('window', window), equals('cohort', cohort), equals('dimension', dimension))}}`;

/** Users of whole cohorts. */
export const cohortUsers = ({ app, window = '1d', cohort }) =>
  `wxapp_portrait_cohort_users{${matchers(app, equals('window', window), equals('cohort', cohort))}}`;

export const referenceDate = ({ app, window = '1d' } = {}) =>
  `wxapp_portrait_reference_date_timestamp_seconds{${matchers(app, equals('window', window))}}`;

/** What exporters that know the newest day of an app say of it; `of` names the app, and the window whose day counts. */
export const ofNewest = (metric, of) =>
  `${metric} and on (job, instance, appid) (${referenceDate(of)} == on (appid) group_left () max by (appid) (${referenceDate(of)}))`;

/** The beginning of yesterday in Beijing, in seconds. */
export const yesterday = '(time() - (time() + 28800) % 86400 - 86400)';

/** The state of data by these labels, see `words.states`: from its newest date, whether that is settled, and whether it is polled at all. */
export const dataState = (labels, date, settled, polled) => `0 * (${date} >= ${yesterday}) + 1 and on (${labels}) ${settled} == 1
or on (${labels}) 0 * (${date} >= ${yesterday}) + 2
or on (${labels}) 0 * (${date} >= ${yesterday} - 86400) + 3
or on (${labels}) 0 * ${date} + 4
or on (${labels}) 0 * ${polled} + 5`;

/** The date of a day that begins at `midnight` in Beijing, in milliseconds: at a time that has this date in every zone from UTC-10 to UTC+13. */
export const dateOf = (midnight) => `1000 * (${midnight} + 64800)`;

/** The number of the day in Beijing that begins at `midnight`; the midnights of zones from UTC-10 to UTC+13 are taken for it, too. */
export const dayNumber = (midnight) => `floor((${midnight} + 46800) / 86400)`;

const weekdayOf = (midnight) => `${dayNumber(midnight)} % 7`;

/** What has the weekday of `midnight`, if all that there is was published within four days. */
export const onWeekdayOf = (midnight) => `and on (weekday) count_values("weekday", ${weekdayOf(midnight)})`;

/** Looks for the figures of a day in the four days after it, or that many weeks earlier. */
const offset = (weeks) => `offset ${weeks ? `${7 * weeks - 4}d` : '-4d'}`;

/**
 * Figures on the day axis: at the midnight with which a day begins the last ones that were published for it, although that was one to
 * three days later. Within the four days in which a reference date is published, no other one has its weekday.
 *
 * `of` names the app, and the window whose reference date counts. `grid` is how often figures are looked for.
 */
export const daily = (by, metric, of, { weeks = 0, grid = '10m' } = {}) => `max by (${by}) (
  last_over_time((
    ${metric}
    * on (job, instance, appid) group_left (weekday)
    count_values by (job, instance, appid) ("weekday", ${weekdayOf(`(${referenceDate(of)} > time() - 345600 and on (job, instance, appid) ${metric})`)})
  )[4d:${grid}] ${offset(weeks)})
  ${onWeekdayOf('vector(time())')}
)`;

/** The same for the users of all apps by cohort (window 1d), which a rule records, as this would be too much for many apps. */
export const recordedDaily = (cohort, weeks = 0) => `last_over_time(appid_cohort_weekday:wxapp_portrait_cohort_users:max{cohort="${cohort}"}[4d] ${offset(weeks)})
  ${onWeekdayOf('vector(time())')}`;

/** Alerts on the day axis: on the day that their figures are of, which rules record while it is the newest one. */
export function dailyAlerts(selector, by, { app, grid = '10m' } = {}) {
  const alerts = `ALERTS{${matchers(selector, app, 'alertstate="firing"')}}`;
  const date = `instance_appid:wxapp_portrait_reference_date_timestamp_seconds:settled{${matchers(app)}}`;
  return `max by (${by}) (
  last_over_time((
    ${alerts}
    * on (appid) group_left (weekday)
    count_values by (appid) (
      "weekday",
      ${weekdayOf(`max by (appid) (${date} and on (appid) ${alerts})`)}
    )
  )[4d:${grid}] ${offset(0)})
  ${onWeekdayOf('vector(time())')}
)`;
}

/** Names of the alerts about users: those of single days, and all. */
export const swings = 'alertname=~"WxappPortrait.+(Swing|Shift|Vanished|Appeared)"';
export const aboutUsers = 'alertname=~"WxappPortrait.+(Swing|Shift|Vanished|Appeared|Drift)"';

/** Firing alerts; as one, whichever exporters and windows they are about. */
export const firing = (...selector) =>
  `max by (alertname, severity, appid, cohort, name) (ALERTS{${matchers(...selector, 'alertstate="firing"')}})`;

/** How urgent each firing alert is: 3 for critical, 2 for warning, 1 for info. */
export const urgency = (selector) =>
  `3 * ${firing('severity="critical"', selector)} or 2 * ${firing('severity="warning"', selector)} or ${firing('alertname=~"WxappPortrait.+"', selector)}`;

/** The change, the users or the usual users that firing alerts are about. */
export function alertFigures(figure, selector) {
  const series = {
    change: [
      'instance_appid_cohort:wxapp_portrait_cohort_users:swing_ratio',
      'instance_appid_cohort_name:wxapp_portrait_users:swing_ratio',
      'instance_appid_cohort_name:wxapp_portrait_users:share_shift',
      'wxapp_portrait_drift_ratio',
    ],
    users: ['instance_appid_cohort:wxapp_portrait_cohort_users:swing', 'instance_appid_cohort_name:wxapp_portrait_users:swing'],
    usual: [
      'instance_appid_cohort:wxapp_portrait_expected_cohort_users:swing',
      'instance_appid_cohort_name:wxapp_portrait_expected_platform_users:swing',
    ],
  }[figure];
  const kinds = [
    ['(New|Active)UsersSwing', 'appid, cohort'],
    ['Platform(UsersSwing|Vanished|Appeared)', 'appid, cohort, name'],
    ['PlatformShareShift', 'appid, cohort, name'],
    ['UsersDrift', 'appid, cohort'],
  ];
  const parts = series.map((figures, i) => {
    const [name, labels] = kinds[i];
    return `${firing(selector, `alertname=~"WxappPortrait${name}"`)} * on (${labels}) group_left () max by (${labels}) (${figures})`;
  });
  return parts.join('\nor ');
}
