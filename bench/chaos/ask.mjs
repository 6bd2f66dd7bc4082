// Asks a tier often and says who answers, one name a line; something else than a name when an answer is none.
//
//   node ask.mjs web|api|rpc|tcp
import * as http from "node:http";
import * as http2 from "node:http2";
import { connect } from "node:net";

const TIMES = 120;
const AT_ONCE = 8;
const names = new Set();

const askers = {
  web: () => get("http://web/?id=1"),
  api: () => get("http://api/?id=1"),
  rpc: () => {
    session ??= http2.connect("http://rpc");
    return new Promise((resolve) => {
      const stream = session.request(
        { ":method": "POST", ":path": "/chaos.Rpc/Say", "x-id": 1 },
        { endStream: false },
      );
      const parts = [];
      stream.on("data", (chunk) => parts.push(chunk));
      stream.on("error", (error) => resolve(error.message));
      stream.on("close", () => resolve(Buffer.concat(parts).subarray(5).toString()));
      stream.end(Buffer.alloc(5));
    });
  },
  tcp: () =>
    new Promise((resolve) => {
      const socket = connect(80, "tcp", () => socket.write("1\n"));
      socket.on("data", (chunk) => {
        resolve(chunk.toString().trim());
        socket.end();
      });
      socket.on("error", (error) => resolve(error.message));
      socket.on("close", () => resolve("closed"));
    }),
};
let session;

function get(url) {
  return new Promise((resolve) => {
    http
      .get(url, (answer) => {
        let body = "";
        answer.on("data", (chunk) => (body += chunk));
        answer.on("end", () => resolve(body));
      })
      .on("error", (error) => resolve(error.message));
  });
}

const tier = process.argv[2];
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let i = 0; i < TIMES / AT_ONCE; i += 1) names.add((await askers[tier]()).split(" ").at(-1));
  }),
);
process.stdout.write(`${[...names].join("\n")}\n`);
process.exit(0);
