# shellcheck shell=bash
# `./run certs`: an authority and certificates to try mutual TLS with. Sourced by ./run; uses lib.sh.

certs_usage() {
  cat <<'END'
usage: ./run certs [--names NAMES] [--days N] [DIRECTORY]

Makes a test authority and certificates for mutual TLS in DIRECTORY (default certs), which must not exist yet: agent,
orchestrator and viewer, each as NAME.crt and NAME.key (mode 600), and the authority as ca.crt and ca.key. They are
for trying things, and expire after N days (default 7). On a cluster have cert-manager or SPIRE issue them.

  --names NAMES   more subject alternative names of the agent: DNS:host1.example.org,IP:10.0.0.1

Then, for example:
  tsc-agent --listen 127.0.0.1:50051 --tls-ca certs/ca.crt --tls-cert certs/agent.crt --tls-key certs/agent.key
  tscctl --agent 127.0.0.1:50051 --tls-ca certs/ca.crt --tls-cert certs/viewer.crt --tls-key certs/viewer.key host
END
}

# The functions below are chained by &&: where they are called, `set -e` has no effect.

# issue_certificate NAME USAGE SUBJECT_ALTERNATIVE_NAMES DAYS, in the current directory.
issue_certificate() {
  local name=$1 usage=$2 names=$3 days=$4
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
    -keyout "$name.key" -out "$name.csr" &&
    openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days "$days" -sha256 -out "$name.crt" \
      -extfile <(printf '%s\n' "basicConstraints=critical,CA:FALSE" "authorityKeyIdentifier=keyid:always" \
        "keyUsage=critical,digitalSignature" "extendedKeyUsage=$usage" "subjectAltName=$names") &&
    rm "$name.csr"
}

make_certificates() {
  local days=$1 more=$2 host domain=spiffe://tsc-handoff.example
  host=$(hostname)
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$days" -subj "/CN=tsc-handoff test authority" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out ca.crt &&
    issue_certificate agent serverAuth,clientAuth \
      "URI:$domain/agent,DNS:tsc-agent.tsc-handoff.example,DNS:localhost,DNS:$host,IP:127.0.0.1,IP:::1${more:+,$more}" "$days" &&
    issue_certificate orchestrator clientAuth "URI:$domain/orchestrator,DNS:orchestrator.tsc-handoff.example" "$days" &&
    issue_certificate viewer clientAuth "URI:$domain/viewer,DNS:viewer.tsc-handoff.example" "$days" &&
    rm -f ca.srl && chmod 644 ./*.crt
}

cmd_certs() {
  local days=7 names='' directory=certs log
  while [ $# -gt 0 ]; do
    case $1 in
      --days) days=${2:?--days needs a number}; shift 2 ;;
      --names) names=${2:?--names needs names}; shift 2 ;;
      -h | --help) certs_usage; return ;;
      -*) certs_usage >&2; return 2 ;;
      *) directory=$1; shift ;;
    esac
  done
  command -v openssl >/dev/null || ensure_packages node
  [ ! -e "$directory" ] || die "$directory exists already; remove it, or name another directory"
  # Keys are nobody else's from the first instant.
  log=$(mktemp)
  (umask 077 && mkdir -p "$directory" && cd "$directory" && make_certificates "$days" "$names") >"$log" 2>&1 ||
    die_with_log "$log" "openssl did not make the certificates"
  rm "$log"
  say "Certificates for $days days are in $directory; ./run certs --help shows how to use them"
}
