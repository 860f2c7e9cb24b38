// As client.py, in Node.js. Its argument is the directory of the modules.
'use strict';

const modules = process.argv[2];
const grpc = require(`${modules}/@grpc/grpc-js`);
require(`${modules}/@grpc/grpc-js-xds`).register();

const clients = new Map();
const same = (bytes) => bytes;

function call(service, limit) {
  if (!clients.has(service)) {
    clients.set(service, new grpc.Client(`xds:///${service}`, grpc.credentials.createInsecure()));
  }
  const begin = process.hrtime.bigint();
  return new Promise((done) => {
    const deadline = Date.now() + limit * 1000;
    clients.get(service).makeUnaryRequest('/test.Backend/Name', same, same, Buffer.alloc(0), { deadline }, (failure, reply) => {
      const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
      done({ reply: failure ? null : reply.toString(), error: failure ? failure.message : null, seconds });
    });
  });
}

(async () => {
  for await (const line of require('readline').createInterface({ input: process.stdin })) {
    const [service, seconds] = line.trim().split(' ');
    console.log(JSON.stringify(await call(service, Number(seconds))));
  }
  process.exit(0);
})();
