// Annotations about retries, timeouts and circuit breaking: what they mean, and what is said of those that mean nothing.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { durationMs } from "../../src/api/time.ts";
import {
  type AnnotationProblem,
  type TrafficPlace,
  trafficSettings,
} from "../../src/rules/traffic-annotations.ts";

const test = suite("traffic annotations");

const RETRY = "retry.linkerd.io/";
const TIMEOUT = "timeout.linkerd.io/";
const BALANCER = "balancer.linkerd.io/";
const ALPHA = "balancer.alpha.linkerd.io/";

function read(annotations: Record<string, string>, on: TrafficPlace = "parent") {
  const problems: AnnotationProblem[] = [];
  const settings = trafficSettings(annotations, on, problems);
  return { settings, problems: problems.map(({ key, message }) => `${key}: ${message}`) };
}

const RETRIES: [string, Record<string, string>, object | undefined][] = [
  ["nothing", {}, undefined],
  ["other annotations", { "config.linkerd.io/inject": "enabled" }, undefined],
  ["a limit alone", { [`${RETRY}limit`]: "3" }, { limit: 3, timeout: undefined, statuses: [], codes: [] }],
  ["none", { [`${RETRY}limit`]: "0" }, { limit: 0, timeout: undefined, statuses: [], codes: [] }],
  ["5xx", { [`${RETRY}http`]: "5xx" }, { limit: 1, timeout: undefined, statuses: [[500, 599]], codes: [] }],
  [
    "codes, ranges and names together",
    { [`${RETRY}http`]: "404, 500-502,Gateway-Error" },
    {
      limit: 1,
      timeout: undefined,
      statuses: [
        [404, 404],
        [500, 502],
        [502, 504],
      ],
      codes: [],
    },
  ],
  [
    "gRPC conditions",
    { [`${RETRY}grpc`]: "cancelled,deadline-exceeded,internal,resource-exhausted,unavailable" },
    { limit: 1, timeout: undefined, statuses: [], codes: [1, 4, 13, 8, 14] },
  ],
  [
    "a timeout of each try",
    { [`${RETRY}timeout`]: "250ms" },
    { limit: 1, timeout: 250, statuses: [], codes: [] },
  ],
];
for (const [text, annotations, expected] of RETRIES)
  test(`retries: ${text}`, () => {
    const { settings, problems } = read(annotations);
    assert.equal(settings.retry, expected);
    assert.equal(problems, []);
  });

test("conditions of one protocol make no retries of the other", () => {
  const of = (annotations: Record<string, string>) => {
    const { retriesHttp, retriesGrpc } = read(annotations).settings;
    return [retriesHttp, retriesGrpc];
  };
  assert.equal(of({ [`${RETRY}http`]: "5xx" }), [true, false]);
  assert.equal(of({ [`${RETRY}grpc`]: "unavailable" }), [false, true]);
  assert.equal(of({ [`${RETRY}limit`]: "2" }), [true, true]);
});

test("timeouts; nought is none", () => {
  const { settings } = read({
    [`${TIMEOUT}request`]: "2s",
    [`${TIMEOUT}response`]: "0s",
    [`${TIMEOUT}idle`]: "1m",
  });
  assert.equal(settings.timeouts, { request: 2_000, response: undefined, idle: 60_000 });
});

test("circuit breaking by failures in a row: defaults, and each key", () => {
  const plain = read({ [`${BALANCER}failure-accrual`]: "consecutive" }).settings.accrual!
    .consecutiveFailures!;
  assert.is(plain.maxFailures, 7);
  assert.is(durationMs(plain.backoff!.minBackoff as never), 1_000);
  assert.is(durationMs(plain.backoff!.maxBackoff as never), 60_000);
  assert.is(plain.backoff!.jitterRatio, 0.5);
  assert.is(plain.backoff!.respectRetryAfterHint, false);
  const { settings, problems } = read({
    [`${BALANCER}failure-accrual`]: "consecutive",
    [`${BALANCER}failure-accrual-consecutive-max-failures`]: "3",
    [`${BALANCER}failure-accrual-consecutive-min-penalty`]: "5s",
    [`${BALANCER}failure-accrual-consecutive-max-penalty`]: "10s",
    [`${BALANCER}failure-accrual-consecutive-jitter-ratio`]: "0.25",
    [`${ALPHA}failure-accrual-honor-retry-after`]: "true",
  });
  assert.equal(settings.accrual, {
    consecutiveFailures: {
      maxFailures: 3,
      backoff: {
        minBackoff: { seconds: 5, nanos: 0 },
        maxBackoff: { seconds: 10, nanos: 0 },
        jitterRatio: 0.25,
        respectRetryAfterHint: true,
      },
    },
  });
  assert.equal(problems, []);
});

test("unified circuit breaking: defaults, and each key", () => {
  const plain = read({ [`${BALANCER}failure-accrual`]: "unified" }).settings.accrual!.unified!;
  assert.equal(
    [
      plain.successRateThreshold,
      durationMs(plain.decay as never),
      plain.minRequests,
      plain.maxConsecutiveFailures,
    ],
    [0.8, 10_000, 5, 7],
  );
  const { accrual } = read({
    [`${BALANCER}failure-accrual`]: "unified",
    [`${BALANCER}failure-accrual-consecutive-max-failures`]: "9",
    [`${ALPHA}failure-accrual-success-rate-threshold`]: "0.5",
    [`${ALPHA}failure-accrual-success-rate-window`]: "30s",
    [`${ALPHA}failure-accrual-success-rate-min-requests`]: "20",
  }).settings;
  const { successRateThreshold, decay, minRequests, maxConsecutiveFailures } = accrual!.unified!;
  assert.equal(
    [successRateThreshold, durationMs(decay as never), minRequests, maxConsecutiveFailures],
    [0.5, 30_000, 20, 9],
  );
});

test("failing endpoints are shunned where that is asked for", () => {
  assert.is(read({ [`${ALPHA}penalize-failures`]: "false" }).settings.load, undefined);
  const { load } = read({
    [`${ALPHA}penalize-failures`]: "true",
    [`${ALPHA}load-biaser-penalty`]: "2s",
    [`${ALPHA}load-biaser-max-retry-after`]: "60s",
  }).settings;
  const { penalty, maxRetryAfter } = load!.penaltyPeakEwma!;
  assert.equal([durationMs(penalty as never), durationMs(maxRetryAfter as never)], [2_000, 60_000]);
  const { load: byDefault } = read({ [`${ALPHA}penalize-failures`]: "true" }).settings;
  assert.is(durationMs(byDefault!.penaltyPeakEwma!.penalty as never), 5_000);
  assert.is(durationMs(byDefault!.penaltyPeakEwma!.maxRetryAfter as never), 300_000);
});

const PROBLEMS: [string, Record<string, string>, TrafficPlace, RegExp][] = [
  [
    "a misspelt key",
    { "retry.linkerd.io/limits": "1" },
    "HTTPRoute",
    /limits: it is not known .* did you mean retry.linkerd.io\/limit\?/,
  ],
  ["a key like nothing", { "balancer.linkerd.io/zzz": "1" }, "parent", /it is not known and has no effect$/],
  [
    "a limit that is none",
    { [`${RETRY}limit`]: "-1" },
    "HTTPRoute",
    /expected an integer from 0 to 20, got "-1"/,
  ],
  ["a limit beyond reason", { [`${RETRY}limit`]: "1000" }, "HTTPRoute", /expected an integer from 0 to 20/],
  [
    "a condition that is none",
    { [`${RETRY}http`]: "5xx,never" },
    "HTTPRoute",
    /expected status codes, .* got "5xx,never"/,
  ],
  ["a range backwards", { [`${RETRY}http`]: "504-500" }, "HTTPRoute", /expected status codes/],
  [
    "a gRPC condition of JavaScript's own",
    { [`${RETRY}grpc`]: "constructor" },
    "GRPCRoute",
    /expected some of cancelled/,
  ],
  ["a duration without unit", { [`${TIMEOUT}request`]: "10" }, "HTTPRoute", /expected a duration/],
  [
    "an unknown mode",
    { [`${BALANCER}failure-accrual`]: "sometimes" },
    "parent",
    /expected consecutive or unified/,
  ],
  [
    "keys without their mode",
    { [`${BALANCER}failure-accrual-consecutive-max-failures`]: "3" },
    "parent",
    /it has no effect without balancer.linkerd.io\/failure-accrual$/,
  ],
  [
    "success rates in mode consecutive",
    {
      [`${BALANCER}failure-accrual`]: "consecutive",
      [`${ALPHA}failure-accrual-success-rate-threshold`]: "0.9",
    },
    "parent",
    /it has no effect in mode consecutive/,
  ],
  [
    "a threshold above one",
    { [`${BALANCER}failure-accrual`]: "unified", [`${ALPHA}failure-accrual-success-rate-threshold`]: "2" },
    "parent",
    /a number from 0 to 1/,
  ],
  [
    "a biaser that is off",
    { [`${ALPHA}load-biaser-penalty`]: "1s" },
    "parent",
    /no effect without .*penalize-failures/,
  ],
  [
    "a balancer's key on a route",
    { [`${BALANCER}failure-accrual`]: "consecutive" },
    "HTTPRoute",
    /it belongs on the Service/,
  ],
  [
    "retries of calls on a route of requests",
    { [`${RETRY}grpc`]: "nonsense" },
    "HTTPRoute",
    /grpc: it has no effect on an HTTPRoute$/,
  ],
  [
    "retries of requests on a route of calls",
    { [`${RETRY}http`]: "5xx" },
    "GRPCRoute",
    /no effect on a GRPCRoute$/,
  ],
  [
    "timeouts of requests on a route of connections",
    { [`${TIMEOUT}request`]: "1s" },
    "TCPRoute",
    /no effect on a TCPRoute$/,
  ],
];
for (const [text, annotations, on, expected] of PROBLEMS)
  test(`told: ${text}`, () => {
    const { problems } = read(annotations, on);
    assert.is(problems.length, 1, problems.join("; "));
    assert.match(problems[0]!, expected);
  });

test("penalties the wrong way round are both the shorter one's, and told", () => {
  const { settings, problems } = read({
    [`${BALANCER}failure-accrual`]: "consecutive",
    [`${BALANCER}failure-accrual-consecutive-min-penalty`]: "10s",
    [`${BALANCER}failure-accrual-consecutive-max-penalty`]: "1s",
  });
  const { minBackoff, maxBackoff } = settings.accrual!.consecutiveFailures!.backoff!;
  assert.equal([durationMs(minBackoff as never), durationMs(maxBackoff as never)], [10_000, 10_000]);
  assert.is(problems.length, 1);
});

test("one bad value does not take the others with it", () => {
  const { settings } = read({
    [`${RETRY}http`]: "nonsense",
    [`${RETRY}limit`]: "2",
    [`${TIMEOUT}request`]: "1s",
  });
  assert.is(settings.retry?.limit, 2);
  assert.is(settings.timeouts.request, 1_000);
});

test.run();
