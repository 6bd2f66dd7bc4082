// exec and attach: the streams of one process, however the client carries them.

import type { Duplex, Readable } from "node:stream";
import { errorMessage } from "../../../util/error.ts";
import type { Json } from "../../cluster.ts";
import type { ExecSession } from "../../node-api.ts";

/** The client's ends. `error` takes one Status when all is over. */
export interface ExecStreams {
  stdin?: Duplex | undefined;
  stdout?: Duplex | undefined;
  stderr?: Duplex | undefined;
  resize?: Duplex | undefined;
  error: Duplex;
}

/** Connects a session with its client and resolves when the process has ended and its output is sent. */
export async function runSession(start: () => Promise<ExecSession>, streams: ExecStreams): Promise<void> {
  let session: ExecSession;
  try {
    session = await start();
  } catch (error) {
    await finish(streams, failure(errorMessage(error), 500, "InternalError"));
    return;
  }
  const gone = () => session.close();
  streams.error.once("close", gone);
  session.stdin.on("error", () => {});
  if (streams.stdin) streams.stdin.pipe(session.stdin);
  else session.stdin.end();
  if (streams.resize) readResizes(streams.resize, session);
  const output = [send(session.stdout, streams.stdout), send(session.stderr, streams.stderr)];
  let status: Json;
  try {
    const code = await session.exit;
    status = code === 0 ? { metadata: {}, status: "Success" } : exitFailure(code);
  } catch (error) {
    status = failure(errorMessage(error), 500, "InternalError");
  }
  await Promise.all(output);
  streams.error.off("close", gone);
  await finish(streams, status);
}

/** Sends output until its end; what nobody asked for is thrown away. */
function send(source: Readable, target: Duplex | undefined): Promise<void> {
  return new Promise((resolve) => {
    source.once("end", resolve);
    source.once("close", resolve);
    source.once("error", () => resolve());
    if (!target) {
      source.resume();
      return;
    }
    target.once("close", resolve);
    source.pipe(target, { end: false });
  });
}

function readResizes(stream: Duplex, session: ExecSession): void {
  let text = "";
  stream.on("data", (chunk: Buffer) => {
    text += chunk.toString();
    // A size is a small flat object; anything that does not end soon is none.
    for (let end = text.indexOf("}"); end >= 0; end = text.indexOf("}")) {
      try {
        const { Width: width, Height: height } = JSON.parse(text.slice(0, end + 1));
        if (width > 0 && height > 0) session.resize(width, height);
      } catch {}
      text = text.slice(end + 1);
    }
    if (text.length > 1024) text = "";
  });
}

async function finish(streams: ExecStreams, status: Json): Promise<void> {
  const outputs = [streams.stdout, streams.stderr].filter((stream) => stream !== undefined);
  await Promise.all([
    ...outputs.map((stream) => ended(stream)),
    ended(streams.error, JSON.stringify(status)),
  ]);
}

function ended(stream: Duplex, last?: string): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableEnded) {
      resolve();
      return;
    }
    stream.once("close", resolve);
    if (last === undefined) stream.end(() => resolve());
    else stream.end(last, () => resolve());
  });
}

const failure = (message: string, code: number, reason: string): Json => ({
  metadata: {},
  status: "Failure",
  message,
  reason,
  code,
});

const exitFailure = (code: number): Json => ({
  metadata: {},
  status: "Failure",
  message: `command terminated with non-zero exit code: exit status ${code}`,
  reason: "NonZeroExitCode",
  details: { causes: [{ reason: "ExitCode", message: String(code) }] },
});
