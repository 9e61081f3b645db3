// Serves the cloud function of docs/cloud-function on a port of its own. POST /invoke hands it the
// body as it is, as invokecloudfunction does; the headers x-openid and x-source make it a call of
// another user. Any other path is its HTTP URL.

const http = require('http')
const Module = require('module')
const path = require('path')

// Holds even where the real one is installed beside the function.
const resolve = Module._resolveFilename
Module._resolveFilename = function (name, ...others) {
  return name === 'wx-server-sdk'
    ? path.join(__dirname, 'wx-server-sdk.js')
    : resolve.call(this, name, ...others)
}
const { main } = require('../../docs/cloud-function')

const server = http.createServer(async (request, response) => {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  const body = Buffer.concat(chunks)
  const { pathname, searchParams } = new URL(request.url, 'http://localhost')

  let answer
  if (pathname === '/invoke') {
    process.env.WX_OPENID = request.headers['x-openid'] || ''
    process.env.TCB_SOURCE = request.headers['x-source'] || 'wx_http'
    answer = await main(JSON.parse(body))
  } else {
    const isText = /^(text|application\/json)\b/.test(request.headers['content-type'] || 'text')
    answer = await main({
      path: pathname,
      httpMethod: request.method,
      headers: request.headers,
      queryStringParameters: Object.fromEntries(searchParams),
      requestContext: {},
      body: body.toString(isText ? 'utf8' : 'base64'),
      isBase64Encoded: !isText
    })
  }
  if (!answer.statusCode) {
    answer = {
      statusCode: 200,
      headers: { 'content-type': 'application/json; charset=utf-8' },
      body: JSON.stringify(answer)
    }
  }
  response.writeHead(answer.statusCode, answer.headers)
  response.end(answer.body)
})

server.listen(0, '127.0.0.1', () => {
  console.log(`listening address=127.0.0.1:${server.address().port}`)
})
