// gRPC's interoperability service (grpc.testing.TestService) and the cases of its published test description, for
// @grpc/grpc-js on both ends. Messages hold the fields that the cases use.
import * as assert from "node:assert/strict";
import * as grpc from "@grpc/grpc-js";
import { bool, bytes, decode, embed, encode, int32, message, repeated, string } from "../../src/api/codec.ts";

const Payload = message("grpc.testing.Payload", { body: bytes(2) });
const EchoStatus = message("grpc.testing.EchoStatus", { code: int32(1), message: string(2) });
const SimpleRequest = message("grpc.testing.SimpleRequest", {
  responseSize: int32(2),
  payload: embed(3, () => Payload),
  fillUsername: bool(4),
  responseStatus: embed(7, () => EchoStatus),
});
const SimpleResponse = message("grpc.testing.SimpleResponse", { payload: embed(1, () => Payload) });
const StreamingInputCallRequest = message("grpc.testing.StreamingInputCallRequest", {
  payload: embed(1, () => Payload),
});
const StreamingInputCallResponse = message("grpc.testing.StreamingInputCallResponse", {
  aggregatedPayloadSize: int32(1),
});
const ResponseParameters = message("grpc.testing.ResponseParameters", {
  size: int32(1),
  intervalUs: int32(2),
});
const StreamingOutputCallRequest = message("grpc.testing.StreamingOutputCallRequest", {
  responseParameters: repeated(embed(2, () => ResponseParameters)),
  payload: embed(3, () => Payload),
  responseStatus: embed(7, () => EchoStatus),
});
const StreamingOutputCallResponse = message("grpc.testing.StreamingOutputCallResponse", {
  payload: embed(1, () => Payload),
});
const Empty = message("grpc.testing.Empty", {});

const of = <T>(type: Parameters<typeof decode<T>>[0]) => ({
  write: (value: Parameters<typeof encode<T>>[1]): Buffer => encode(type, value),
  read: (data: Buffer): T => decode(type, data),
});

/** A method of the service, as grpc-js wants it. */
function rpc<Q, R>(
  name: string,
  request: Parameters<typeof decode<Q>>[0],
  response: Parameters<typeof decode<R>>[0],
  requestStream: boolean,
  responseStream: boolean,
) {
  const [q, r] = [of(request), of(response)];
  return {
    path: `/grpc.testing.TestService/${name}`,
    requestStream,
    responseStream,
    requestSerialize: q.write,
    requestDeserialize: q.read,
    responseSerialize: r.write,
    responseDeserialize: r.read,
  };
}

const SERVICE = {
  emptyCall: rpc("EmptyCall", Empty, Empty, false, false),
  unaryCall: rpc("UnaryCall", SimpleRequest, SimpleResponse, false, false),
  streamingInputCall: rpc(
    "StreamingInputCall",
    StreamingInputCallRequest,
    StreamingInputCallResponse,
    true,
    false,
  ),
  streamingOutputCall: rpc(
    "StreamingOutputCall",
    StreamingOutputCallRequest,
    StreamingOutputCallResponse,
    false,
    true,
  ),
  fullDuplexCall: rpc("FullDuplexCall", StreamingOutputCallRequest, StreamingOutputCallResponse, true, true),
};

const ECHO_INITIAL = "x-grpc-test-echo-initial";
const ECHO_TRAILING = "x-grpc-test-echo-trailing-bin";

/** Sends back the metadata that the cases ask to have back. */
function echoMetadata(call: { metadata: grpc.Metadata; sendMetadata(metadata: grpc.Metadata): void }) {
  const initial = new grpc.Metadata();
  const trailing = new grpc.Metadata();
  for (const value of call.metadata.get(ECHO_INITIAL)) initial.add(ECHO_INITIAL, value);
  for (const value of call.metadata.get(ECHO_TRAILING)) trailing.add(ECHO_TRAILING, value);
  if (call.metadata.get(ECHO_INITIAL).length > 0) call.sendMetadata(initial);
  return trailing;
}

/** The interoperability server, on a free loopback port. */
export async function startInteropServer(): Promise<{ port: number; close(): void }> {
  const server = new grpc.Server();
  // biome-ignore lint/suspicious/noExplicitAny: grpc-js types each handler by its service definition, which is made here.
  const handlers: Record<keyof typeof SERVICE, any> = {
    emptyCall: (_call: unknown, callback: grpc.sendUnaryData<object>) => callback(null, {}),
    unaryCall: (
      call: grpc.ServerUnaryCall<ReturnType<typeof simpleRequest>, unknown>,
      callback: grpc.sendUnaryData<object>,
    ) => {
      const trailing = echoMetadata(call);
      const { responseStatus, responseSize } = call.request;
      if (responseStatus?.code)
        callback({ code: responseStatus.code, details: responseStatus.message }, null, trailing);
      else callback(null, { payload: { body: Buffer.alloc(responseSize) } }, trailing);
    },
    streamingInputCall: (
      call: grpc.ServerReadableStream<{ payload?: { body: Buffer } }, unknown>,
      callback: grpc.sendUnaryData<object>,
    ) => {
      let size = 0;
      call.on("data", ({ payload }) => {
        size += payload?.body.length ?? 0;
      });
      call.on("end", () => callback(null, { aggregatedPayloadSize: size }));
    },
    streamingOutputCall: async (
      call: grpc.ServerWritableStream<ReturnType<typeof outputRequest>, unknown>,
    ) => {
      for (const { size } of call.request.responseParameters)
        call.write({ payload: { body: Buffer.alloc(size) } });
      call.end();
    },
    fullDuplexCall: (call: grpc.ServerDuplexStream<ReturnType<typeof outputRequest>, unknown>) => {
      const trailing = echoMetadata(call);
      call.on("data", ({ responseParameters, responseStatus }) => {
        if (responseStatus?.code)
          call.emit("error", {
            code: responseStatus.code,
            details: responseStatus.message,
            metadata: trailing,
          });
        for (const { size } of responseParameters) call.write({ payload: { body: Buffer.alloc(size) } });
      });
      call.on("end", () => call.end(trailing));
    },
  };
  server.addService(SERVICE, handlers);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return { port, close: () => server.forceShutdown() };
}

const simpleRequest = (data: Buffer) => decode(SimpleRequest, data);
const outputRequest = (data: Buffer) => decode(StreamingOutputCallRequest, data);

const Client = grpc.makeGenericClientConstructor(SERVICE, "TestService");
// biome-ignore lint/suspicious/noExplicitAny: its methods are made from the definition above.
type InteropClient = any;

const unary = (
  client: InteropClient,
  method: string,
  request: object,
  options: { metadata?: grpc.Metadata; deadline?: number } = {},
) =>
  new Promise<{
    value?: { payload?: { body: Buffer } };
    error?: grpc.ServiceError;
    initial?: grpc.Metadata;
    status?: grpc.StatusObject;
  }>((resolve) => {
    let initial: grpc.Metadata | undefined;
    let status: grpc.StatusObject | undefined;
    let result: [grpc.ServiceError | null, { payload?: { body: Buffer } }] | undefined;
    const done = () => {
      if (!result || !status) return;
      const [error, value] = result;
      resolve({ ...(error ? { error } : { value }), ...(initial ? { initial } : {}), status });
    };
    const call = client[method](
      request,
      options.metadata ?? new grpc.Metadata(),
      options.deadline === undefined ? {} : { deadline: options.deadline },
      (error: grpc.ServiceError | null, value: { payload?: { body: Buffer } }) => {
        result = [error, value];
        done();
      },
    );
    call.on("metadata", (metadata: grpc.Metadata) => {
      initial = metadata;
    });
    call.on("status", (given: grpc.StatusObject) => {
      status = given;
      done();
    });
  });

/** Runs a stream to its end: what came, and the status. */
const drained = (call: grpc.ClientReadableStream<{ payload?: { body: Buffer } }>) =>
  new Promise<{ sizes: number[]; status: grpc.StatusObject; initial?: grpc.Metadata }>((resolve) => {
    const sizes: number[] = [];
    let initial: grpc.Metadata | undefined;
    call.on("metadata", (metadata) => {
      initial = metadata;
    });
    call.on("data", ({ payload }) => sizes.push(payload?.body.length ?? 0));
    call.on("error", () => {});
    call.on("status", (status) => resolve({ sizes, status, ...(initial ? { initial } : {}) }));
  });

const LARGE_REQUEST = 271_828;
const LARGE_RESPONSE = 314_159;
const SIZES = [31_415, 9, 2_653, 58_979];
const MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";

function metadata(): grpc.Metadata {
  const made = new grpc.Metadata();
  made.set(ECHO_INITIAL, "test_initial_metadata_value");
  made.set(ECHO_TRAILING, Buffer.from([0xab, 0xab, 0xab]));
  return made;
}

/** Each case by the name that the description gives it. Calls go to `port`, as `authority`. */
export const INTEROP_CASES: Readonly<Record<string, (client: InteropClient) => Promise<void>>> = {
  empty_unary: async (client) => {
    assert.equal((await unary(client, "emptyCall", {})).error, undefined);
  },
  large_unary: async (client) => {
    const { value } = await unary(client, "unaryCall", {
      responseSize: LARGE_RESPONSE,
      payload: { body: Buffer.alloc(LARGE_REQUEST) },
    });
    assert.equal(value?.payload?.body.length, LARGE_RESPONSE);
  },
  client_streaming: async (client) => {
    const sum = await new Promise((resolve, reject) => {
      const call = client.streamingInputCall(
        (error: Error | null, value: { aggregatedPayloadSize: number }) =>
          error ? reject(error) : resolve(value.aggregatedPayloadSize),
      );
      for (const size of [27_182, 8, 1_828, 45_904]) call.write({ payload: { body: Buffer.alloc(size) } });
      call.end();
    });
    assert.equal(sum, 74_922);
  },
  server_streaming: async (client) => {
    const call = client.streamingOutputCall({ responseParameters: SIZES.map((size) => ({ size })) });
    const { sizes, status } = await drained(call);
    assert.deepEqual(sizes, SIZES);
    assert.equal(status.code, grpc.status.OK);
  },
  ping_pong: async (client) => {
    const call = client.fullDuplexCall();
    const requests = [27_182, 8, 1_828, 45_904];
    let sent = 0;
    const next = () => {
      if (sent === requests.length) call.end();
      else {
        call.write({
          responseParameters: [{ size: SIZES[sent]! }],
          payload: { body: Buffer.alloc(requests[sent]!) },
        });
        sent += 1;
      }
    };
    call.on("data", next);
    next();
    const { sizes, status } = await drained(call);
    assert.deepEqual(sizes, SIZES);
    assert.equal(status.code, grpc.status.OK);
  },
  empty_stream: async (client) => {
    const call = client.fullDuplexCall();
    call.end();
    const { sizes, status } = await drained(call);
    assert.deepEqual([sizes, status.code], [[], grpc.status.OK]);
  },
  custom_metadata: async (client) => {
    const got = await unary(
      client,
      "unaryCall",
      { responseSize: 10, payload: { body: Buffer.alloc(10) } },
      { metadata: metadata() },
    );
    assert.deepEqual(got.initial?.get(ECHO_INITIAL), ["test_initial_metadata_value"]);
    assert.deepEqual(got.status?.metadata.get(ECHO_TRAILING), [Buffer.from([0xab, 0xab, 0xab])]);
    const call = client.fullDuplexCall(metadata());
    call.write({ responseParameters: [{ size: 10 }] });
    call.end();
    const streamed = await drained(call);
    assert.deepEqual(streamed.initial?.get(ECHO_INITIAL), ["test_initial_metadata_value"]);
    assert.deepEqual(streamed.status.metadata.get(ECHO_TRAILING), [Buffer.from([0xab, 0xab, 0xab])]);
  },
  status_code_and_message: async (client) => {
    const responseStatus = { code: 2, message: "test status message" };
    const { error } = await unary(client, "unaryCall", { responseStatus });
    assert.deepEqual([error?.code, error?.details], [2, "test status message"]);
    const call = client.fullDuplexCall();
    call.write({ responseStatus });
    call.end();
    const { status } = await drained(call);
    assert.deepEqual([status.code, status.details], [2, "test status message"]);
  },
  special_status_message: async (client) => {
    const { error } = await unary(client, "unaryCall", { responseStatus: { code: 2, message: MESSAGE } });
    assert.deepEqual([error?.code, error?.details], [2, MESSAGE]);
  },
  unimplemented_method: async (client) => {
    const error = await unknownCall(client, "/grpc.testing.TestService/UnimplementedCall");
    assert.equal(error.code, grpc.status.UNIMPLEMENTED);
  },
  unimplemented_service: async (client) => {
    const error = await unknownCall(client, "/grpc.testing.UnimplementedService/UnimplementedCall");
    assert.equal(error.code, grpc.status.UNIMPLEMENTED);
  },
  cancel_after_begin: async (client) => {
    const error = await new Promise<grpc.ServiceError | null>((resolve) => {
      const call = client.streamingInputCall(resolve);
      setImmediate(() => call.cancel());
    });
    assert.equal(error?.code, grpc.status.CANCELLED);
  },
  cancel_after_first_response: async (client) => {
    const call = client.fullDuplexCall();
    call.on("data", () => call.cancel());
    call.write({ responseParameters: [{ size: 31_415 }], payload: { body: Buffer.alloc(27_182) } });
    const { status } = await drained(call);
    assert.equal(status.code, grpc.status.CANCELLED);
  },
  timeout_on_sleeping_server: async (client) => {
    const call = client.fullDuplexCall(new grpc.Metadata(), { deadline: Date.now() + 5 });
    call.write({ payload: { body: Buffer.alloc(27_182) } });
    const { status } = await drained(call);
    assert.equal(status.code, grpc.status.DEADLINE_EXCEEDED);
  },
};

const unknownCall = (client: InteropClient, path: string) =>
  new Promise<grpc.ServiceError>((resolve, reject) => {
    const { requestSerialize, responseDeserialize } = SERVICE.emptyCall;
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      {},
      (error: grpc.ServiceError | null) =>
        error ? resolve(error) : reject(new Error(`${path} was answered`)),
    );
  });

/** A client that calls whoever listens on loopback `port`. */
export function interopClient(port: number): InteropClient & { close(): void } {
  return new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    "grpc.default_authority": "interop.test",
  });
}
