// Columns of tables that several dashboards have.

import { changes, texts } from './panels.mjs';
import { alertFigures } from './promql.mjs';
import * as words from './words.mjs';

/** The name of an app, which leads to its dashboard with these parameters; needs the column `appid`. */
export const app = (parameters = '') => ({
  label: 'app',
  title: ['小程序', 'Mini program'],
  width: 220,
  links: [
    { title: '看板 Dashboard', url: `/d/wxapp-portrait-app?var-appid=\${__data.fields.AppID}${parameters}` },
    { title: '小程序页面 App page', url: '${exporter}/apps/${__data.fields.AppID}', targetBlank: true },
  ],
});
export const appid = { label: 'appid', title: ['AppID'], width: 180 };
export const team = { label: 'team', title: ['团队', 'Team'] };
export const cohort = { label: 'cohort', title: ['用户类型', 'Cohort'], mappings: texts(words.cohorts) };
export const platform = { label: 'name', title: ['平台', 'Platform'] };
export const reason = { label: 'reason', title: ['原因与处理', 'Why, and what to do'], mappings: texts(words.reasons), width: 520 };

/** What alerts say; `only` keeps those of certain apps. */
export const alerts = (selector, only = (expr) => expr) => [
  { label: 'alertname', title: ['告警', 'Alert'], mappings: texts(words.alerts), width: 460 },
  cohort,
  platform,
  { label: 'severity', title: ['级别', 'Severity'], mappings: texts(words.severities) },
  { title: ['较往常', 'Change'], unit: 'percentunit', decimals: 1, steps: changes, expr: only(alertFigures('change', selector)) },
  { title: ['用户数', 'Users'], expr: only(alertFigures('users', selector)) },
  { title: ['往常', 'Usual'], decimals: 0, expr: only(alertFigures('usual', selector)) },
];
