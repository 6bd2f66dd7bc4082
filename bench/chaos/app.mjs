// The application of the chaos run, one tier by its name, on Node's own servers. Each does what applications are told
// to do: on SIGTERM it goes on serving while the news travels, then ends what it has in good order.
//
//   node app.mjs web|api|rpc|tcp
import * as http from "node:http";
import * as http2 from "node:http2";
import { createServer } from "node:net";
import { hostname } from "node:os";

/** As a preStop sleep of that length, ms. */
const LINGER = 5_000;
/** Then for what is under way, ms. */
const PATIENCE = 10_000;
const agent = new http.Agent({ keepAlive: true, maxSockets: 50 });

const tiers = {
  /** HTTP/1: asks `api` and answers with what that said. */
  web() {
    return http1((incoming, response) => {
      const id = new URL(incoming.url, "http://web").searchParams.get("id");
      const call = http.request(`http://api/?id=${id}`, { agent, timeout: 20_000 }, (answer) => {
        let body = "";
        answer.on("data", (chunk) => (body += chunk));
        answer.on("error", (error) => bad(response, `api: ${error.code ?? error.message}`));
        answer.on("end", () => {
          if (answer.statusCode === 200) response.end(`${body} ${hostname()}`);
          else bad(response, `api: ${answer.statusCode} ${JSON.stringify(told(answer.headers))} ${body}`);
        });
      });
      call.on("timeout", () => call.destroy(new Error("timeout")));
      call.on("error", (error) => bad(response, `api: ${error.code ?? error.message}`));
      call.end();
    });
  },
  /** HTTP/1: answers the request's id and its own name. */
  api() {
    return http1((incoming, response) => {
      response.end(`${new URL(incoming.url, "http://api").searchParams.get("id")} ${hostname()}`);
    });
  },
  /** gRPC's way of HTTP/2: a framed message back, and trailers. */
  rpc() {
    const sessions = new Set();
    const server = http2.createServer();
    server.on("session", (session) => {
      sessions.add(session);
      session.on("close", () => sessions.delete(session));
    });
    server.on("stream", (stream, headers) => {
      stream.on("error", () => {});
      stream.resume();
      stream.on("end", () => {
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
        const message = Buffer.from(`${headers["x-id"]} ${hostname()}`);
        const head = Buffer.alloc(5);
        head.writeUInt32BE(message.length, 1);
        stream.end(Buffer.concat([head, message]));
      });
    });
    server.listen(8080);
    return () => {
      server.close();
      for (const session of sessions) session.close();
    };
  },
  /** Lines, each answered by itself and the pod's name; BYE before it leaves. */
  tcp() {
    const sockets = new Set();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      socket.on("error", () => {});
      let rest = "";
      socket.on("data", (chunk) => {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop();
        for (const line of lines) socket.write(`${line} ${hostname()}\n`);
      });
    }).listen(8080);
    return () => {
      server.close();
      for (const socket of sockets) socket.write("BYE\n");
    };
  },
};

function http1(answer) {
  const server = http.createServer({ keepAliveTimeout: 60_000 }, answer).listen(8080);
  return () => {
    server.close();
    server.closeIdleConnections();
  };
}

function bad(response, text) {
  if (response.headersSent) return;
  response.statusCode = 500;
  response.end(text);
}

function told(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith("l5d-")));
}

const leave = tiers[process.argv[2]]();
// For the kubelet: a port of its own, as a proxy would accept connections for an application that is not there yet.
http.createServer((_, response) => response.end("ready")).listen(8081);
process.once("SIGTERM", () => {
  setTimeout(() => {
    leave();
    setTimeout(() => process.exit(0), PATIENCE).unref();
  }, LINGER);
});
