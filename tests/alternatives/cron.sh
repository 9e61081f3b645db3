#!/usr/bin/env bash
# Writes the users of a mini program on a day, by default yesterday, for the textfile collector of node_exporter.
# README.md compares this project with such a script of cron, curl and jq; tests/exporter/alternatives.rs measures it.
#
# usage: cron.sh APPID SECRET_FILE DIRECTORY [DAY]
set -euo pipefail

api=${WECHAT_API:-https://api.weixin.qq.com}
appid=$1
secret_file=$2
output=$3/wxapp_portrait.prom
# WeChat counts days in Beijing time.
day=${4:-$(TZ=Asia/Shanghai date -d yesterday +%Y%m%d)}

fail() {
    echo "$appid $day: $1" >&2
    exit 1
}

# The bodies come from standard input, as the arguments of a process are visible to all users.
post() {
    curl --silent --show-error --fail --max-time 30 --data @- "$api/$1" || fail "WeChat cannot be reached"
}

# Unlike `token`, this endpoint does not invalidate the token of the app's backend.
answer=$(jq --null-input --arg appid "$appid" --rawfile secret "$secret_file" \
    '{grant_type: "client_credential", appid: $appid, secret: $secret | rtrimstr("\n")}' | post cgi-bin/stable_token)
token=$(jq --raw-output '.access_token // empty' <<<"$answer")
[ -n "$token" ] || fail "no token: $(jq --compact-output . <<<"$answer")"

answer=$(jq --null-input --arg day "$day" '{begin_date: $day, end_date: $day}' |
    post "datacube/getweanalysisappiduserportrait?access_token=$token")
errcode=$(jq '.errcode // 0' <<<"$answer")
[ "$errcode" = 0 ] || fail "no portrait: $(jq --compact-output . <<<"$answer")"
# Before WeChat has computed a day, its portrait may be empty: that is not a day without users.
rows=$(jq '[.visit_uv_new, .visit_uv | .platforms[]?] | length' <<<"$answer")
[ "$rows" -gt 0 ] || fail "the portrait is empty"

# The collector may read at any time, so the file is replaced as a whole.
jq --raw-output --arg appid "$appid" '
    {new: .visit_uv_new.platforms, active: .visit_uv.platforms} | to_entries[] | .key as $cohort | .value[]
    | "wxapp_users{appid=\"\($appid)\",cohort=\"\($cohort)\",name=\"\(.name)\"} \(.value)"
' <<<"$answer" >"$output.$$"
printf 'wxapp_day{appid="%s"} %s\n' "$appid" "$day" >>"$output.$$"
mv "$output.$$" "$output"
