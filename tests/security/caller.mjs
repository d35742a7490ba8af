// Calls an agent by @grpc/grpc-js, a second implementation of gRPC with a TLS library's other binding.
//
// argv[2] is JSON: {address, proto, ca?, cert?, key?, min?, max?, loop?}. Files are PEM. Without `loop` one call: prints
// {"host_name": ...} or {"code": N, "details": ...}. With `loop`: so many callers at once, each with one connection for
// all its calls, and as many with a new connection for each, until stdin ends; prints {"kept": calls, "fresh": calls,
// "failures": [...]}.
import {readFileSync} from 'node:fs';

import grpc from '@grpc/grpc-js';
import {loadSync} from '@grpc/proto-loader';

const options = JSON.parse(process.argv[2]);
const {TscAgent} = grpc.loadPackageDefinition(
    loadSync('tschandoff/v1/tsc_agent.proto', {includeDirs: [options.proto]})).tschandoff.v1;

function credentials() {
  if (!options.ca) return grpc.credentials.createInsecure();
  const read = (name) => name ? readFileSync(name) : null;
  const verify = {};
  const context = {ca: read(options.ca), cert: read(options.cert), key: read(options.key)};
  // What createSsl has no word for.
  if (options.min) context.minVersion = options.min;
  if (options.max) context.maxVersion = options.max;
  return options.min || options.max
      ? grpc.credentials.createFromSecureContext(secureContext(context), verify)
      : grpc.credentials.createSsl(context.ca, context.key, context.cert, verify);
}

const {createSecureContext: secureContext} = await import('node:tls');

function connect() {
  return new TscAgent(options.address, credentials(), {'grpc.use_local_subchannel_pool': 1, 'grpc.enable_http_proxy': 0});
}

function ask(client) {
  return new Promise((resolve) => {
    client.GetHostInfo({}, {deadline: Date.now() + 20000}, (error, answer) => {
      resolve(error ? {code: error.code, details: error.details} : {host_name: answer.host.hostName});
    });
  });
}

if (!options.loop) {
  const client = connect();
  console.log(JSON.stringify(await ask(client)));
  client.close();
} else {
  let ended = false;
  const counts = {kept: 0, fresh: 0, failures: []};
  process.stdin.on('end', () => { ended = true; }).resume();
  const call = async (client, kind) => {
    const answer = await ask(client);
    counts[kind] += 1;
    if (answer.code) counts.failures.push({kind, ...answer});
  };
  const keep = async () => {
    const client = connect();
    while (!ended) await call(client, 'kept');
    client.close();
  };
  const renew = async () => {
    while (!ended) {
      const client = connect();
      await call(client, 'fresh');
      client.close();
    }
  };
  await Promise.all([...Array(options.loop)].flatMap(() => [keep(), renew()]));
  console.log(JSON.stringify(counts));
}
