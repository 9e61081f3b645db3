// The words for values of labels and for states, in both languages; docs/glossary.md has the terms.

import { readFileSync } from 'node:fs';

const rules = readFileSync(new URL('../../alerts/wxapp-portrait.rules.yml', import.meta.url), 'utf8');

/** The alerts by name, in the words of the rules; of the first rule where there are several. */
export const alerts = Object.fromEntries(
  [...rules.matchAll(/- alert: (\w+)\n(?:(?!- alert:)[^])*?summary: (.+)\n\s+summary_zh: (.+)/g)].reverse().map(([, name, en, zh]) => [name, `${zh} · ${en}`]),
);

export const severities = { critical: ['严重 critical', 'red'], warning: '警告 warning', info: '提示 info' };

export const cohorts = { new: '新增 new', active: '活跃 active' };

export const dimensions = { platform: '平台 platform', gender: '性别 gender', age: '年龄 age', province: '省份 province', city: '城市 city', device: '机型 device' };

export const kinds = { workday: '工作日 workday', weekend: '周末 weekend', holiday: '节假日 holiday', makeup_workday: '调休上班日 make-up workday', unknown: '未知 unknown' };

/** Why polls fail, and what to do. */
export const reasons = {
  not_ready: '数据尚未生成，稍后自动重试 · WeChat has no figures yet; retried',
  empty: '返回空数据，小程序可能没有用户 · empty portrait, as for an app without users',
  busy: '微信系统繁忙，稍后自动重试 · WeChat is busy; retried',
  rate_limited: '调用过于频繁，已延后重试 · too many calls; retried later',
  quota: '今日调用次数已用完，明日恢复 · quota of the day is used up',
  token: '令牌无效，请检查令牌来源 · no valid access token: check its source',
  credentials: 'AppSecret 有误，请核对是否已重置 · wrong AppID or AppSecret: check it',
  ip_not_allowed: '出口 IP 不在白名单，请添加 · add the exporter’s IP to the allow list',
  permission: '没有接口权限，请在接口设置开通 · no permission for the API: enable it',
  date_range: '日期不被接受，请检查服务器时间 · date not accepted: check the clock',
  transport: '网络请求失败，请检查网络与代理 · request failed: check network and proxy',
  decode: '返回内容无法识别 · unreadable response: check proxies and sources',
  configuration: '配置或密钥文件不可用 · configuration or secret file unusable: see the log',
  other: '其他错误，详见小程序页面 · another error: see the app’s page',
};

/** States of the data of an app. */
export const states = {
  1: ['已确认 settled', 'green'],
  2: ['待确认，微信仍可能修订 · may still be corrected', 'yellow'],
  3: ['等待昨日数据 · waiting for yesterday', 'blue'],
  4: ['数据滞后 · behind', 'red'],
  5: ['从未获取到数据 · never had a portrait', 'red'],
};
