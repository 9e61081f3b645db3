// Replaces wx-server-sdk: requests from the WeChat of the tests, with a token, what the SDK requests
// without one from inside the cloud. Returns and throws as the SDK does.

const API = 'openapi.analysis.getUserPortrait'

exports.DYNAMIC_CURRENT_ENV = Symbol('DYNAMIC_CURRENT_ENV')

exports.init = () => {}

// The SDK, too, finds the caller in the environment, and leaves out what is not there.
exports.getWXContext = () => {
  const context = {}
  if (process.env.WX_OPENID) context.OPENID = process.env.WX_OPENID
  if (process.env.TCB_SOURCE) context.SOURCE = process.env.TCB_SOURCE
  return context
}

exports.openapi = { analysis: { getUserPortrait } }

async function getUserPortrait({ beginDate, endDate }) {
  const { WECHAT, ACCESS_TOKEN } = process.env
  const url = `${WECHAT}/datacube/getweanalysisappiduserportrait?access_token=${ACCESS_TOKEN}`
  const body = JSON.stringify({ begin_date: beginDate, end_date: endDate })
  const { errcode, errmsg, ...answer } = await (await fetch(url, { method: 'POST', body })).json()
  if (errcode) {
    throw Object.assign(new Error(), { errCode: errcode, errMsg: `${API}:fail ${errmsg}` })
  }
  return { ...inCamelCase(answer), errMsg: `${API}:ok`, errCode: 0 }
}

function inCamelCase(value) {
  if (Array.isArray(value)) return value.map(inCamelCase)
  if (value === null || typeof value !== 'object') return value
  const rename = (key) => key.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())
  return Object.fromEntries(
    Object.entries(value).map(([key, value]) => [rename(key), inCamelCase(value)])
  )
}
