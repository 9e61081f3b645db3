// Returns the portrait of the mini program whose cloud this runs in. No AppSecret is needed
// there. It is called by WeChat's invokecloudfunction, or through an HTTP URL of its own.

const crypto = require('crypto')
const cloud = require('wx-server-sdk')

cloud.init({ env: cloud.DYNAMIC_CURRENT_ENV })

exports.main = async (event) => {
  // Only the HTTP URL names a method. Any other caller who does so needs the key, too.
  if (event.httpMethod) return overHttp(event)

  // The users of the mini program, and visitors of its web pages, can call every function, and
  // write what they like into the event; but not into the context.
  const { OPENID, SOURCE } = cloud.getWXContext()
  if (OPENID || SOURCE !== 'wx_http') {
    const caller = OPENID ? 'a user' : SOURCE || 'an unknown caller'
    return failure(403, `refused to ${caller}: only invokecloudfunction and the HTTP URL may ask`)
  }
  return portrait(event)
}

async function overHttp(request) {
  const key = process.env.PORTRAIT_KEY
  if (!key) return response(401, failure(401, 'set the environment variable PORTRAIT_KEY of this cloud function to a long random key'))
  if (!isSame(header(request, 'authorization'), `Bearer ${key}`)) {
    return response(401, failure(401, 'send the header "Authorization: Bearer KEY" with the PORTRAIT_KEY of this cloud function'))
  }

  const encoding = String(request.isBase64Encoded) === 'true' ? 'base64' : 'utf8'
  let question
  try {
    question = JSON.parse(Buffer.from(request.body || '', encoding).toString())
  } catch (error) {
    return response(400, failure(400, 'send JSON such as {"beginDate":"20261121","endDate":"20261121"}'))
  }
  return response(200, await portrait(question))
}

async function portrait(question) {
  try {
    return await cloud.openapi.analysis.getUserPortrait({
      beginDate: question.beginDate || question.begin_date,
      endDate: question.endDate || question.end_date
    })
  } catch (error) {
    // Whatever is thrown reaches the caller without its errCode.
    return failure(Number(error.errCode) || -1, error.errMsg || error.message)
  }
}

function failure(errCode, errMsg) {
  return { errCode, errMsg }
}

function response(statusCode, answer) {
  return {
    statusCode,
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: JSON.stringify(answer),
    isBase64Encoded: false
  }
}

function header(request, wanted) {
  const headers = request.headers || {}
  const name = Object.keys(headers).find((name) => name.toLowerCase() === wanted)
  return name ? headers[name] : ''
}

// Takes the same time however much of the key is right.
function isSame(given, wanted) {
  const digest = (text) => crypto.createHash('sha256').update(String(text)).digest()
  return crypto.timingSafeEqual(digest(given), digest(wanted))
}
