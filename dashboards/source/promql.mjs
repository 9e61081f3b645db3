// The parts of queries that several panels share.
//
// Two exporters may serve an app: shown is the maximum over them, so that nobody is counted twice.

/** Joins matchers; those that are undefined are left out. */
export const matchers = (...all) => all.filter(Boolean).join(', ');

const equals = (label, value) => value && `${label}="${value}"`;

/** Users by dimension and name; `app` is a matcher of the app. */
export const users = ({ app, window = '1d', cohort, dimension }) =>
  `wxapp_portrait_users{${matchers(app, equals('window', window), equals('cohort', cohort), equals('dimension', dimension))}}`;

/** Users of whole cohorts. */
export const cohortUsers = ({ app, window = '1d', cohort }) =>
  `wxapp_portrait_cohort_users{${matchers(app, equals('window', window), equals('cohort', cohort))}}`;

export const referenceDate = ({ app, window = '1d' } = {}) =>
  `wxapp_portrait_reference_date_timestamp_seconds{${matchers(app, equals('window', window))}}`;

/** The beginning of yesterday in Beijing, in seconds. */
export const yesterday = '(time() - (time() + 28800) % 86400 - 86400)';

/** The number of the day in Beijing that begins at `midnight`; the midnights of zones from UTC-10 to UTC+13 are taken for it, too. */
const dayNumber = (midnight) => `floor((${midnight} + 46800) / 86400)`;

/** The label `weekday` for the samples of each reference date; within the four days in which these are published, no other date has it. */
const weekdays = (of) =>
  `count_values by (job, instance, appid) ("weekday", ${dayNumber(`(${referenceDate(of)} > time() - 345600)`)} % 7)`;

const weekdayOfStep = `count_values("weekday", ${dayNumber('vector(time())')} % 7)`;

/** Looks for the figures of a day in the four days after it, or that many weeks earlier. */
const offset = (weeks) => `offset ${weeks ? `${7 * weeks - 4}d` : '-4d'}`;

/**
 * Figures on the day axis: at the midnight with which a day begins the last ones that were published for it, although that was one to
 * three days later. `of` names the app, and the window whose reference date counts; `grid` is how often they are looked for.
 */
export const daily = (by, metric, of, { weeks = 0, grid = '10m' } = {}) => `max by (${by}) (
  last_over_time((
    ${metric}
    * on (job, instance, appid) group_left (weekday)
    ${weekdays(of)}
  )[4d:${grid}] ${offset(weeks)})
  and on (weekday) ${weekdayOfStep}
)`;

/** The same for the users of all apps by cohort (window 1d), which a rule records, as this would be too much for many apps. */
export const recordedDaily = (cohort, weeks = 0) => `last_over_time(appid_cohort_weekday:wxapp_portrait_cohort_users:max{cohort="${cohort}"}[4d] ${offset(weeks)})
  and on (weekday) ${weekdayOfStep}`;

/** Alerts on the day axis: on the day whose figures they are about. */
export const dailyAlerts = (alerts, by) => `max by (${by}) (
  last_over_time((
    ALERTS{${alerts}, alertstate="firing"}
    * on (appid) group_left (weekday)
    count_values by (appid) (
      "weekday",
      ${dayNumber(`max by (appid) (${referenceDate()} > time() - 345600 and on (appid) ALERTS{${alerts}, alertstate="firing"})`)} % 7
    )
  )[4d:1h] ${offset(0)})
  and on (weekday) ${weekdayOfStep}
)`;

/** Names of the alerts about users. */
export const swings = 'alertname=~"WxappPortrait.+(Swing|Shift|Vanished|Appeared|Drift)"';

/** Firing alerts, and as their value the change, the users or the usual users that they are about. */
export function alertFigures(figure, selector) {
  const series = {
    change: [
      'instance_appid_cohort:wxapp_portrait_cohort_users:swing_ratio',
      'instance_appid_cohort_name:wxapp_portrait_users:swing_ratio',
      'instance_appid_cohort_name:wxapp_portrait_users:share_shift',
      'wxapp_portrait_drift_ratio',
    ],
    users: [
      'instance_appid_cohort:wxapp_portrait_cohort_users:swing',
      'instance_appid_cohort_name:wxapp_portrait_users:swing',
    ],
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
  const alerts = (name) =>
    `max by (alertname, severity, appid, cohort, name) (ALERTS{${matchers(selector, `alertname=~"WxappPortrait${name}"`, 'alertstate="firing"')}})`;
  const parts = series.map((figures, i) => {
    const [name, labels] = kinds[i];
    return `${alerts(name)} * on (${labels}) group_left () max by (${labels}) (${figures})`;
  });
  // Those without figures are listed, too.
  if (figure === 'change') parts.push(`${alerts('.+')} * NaN`);
  return parts.join('\nor ');
}
