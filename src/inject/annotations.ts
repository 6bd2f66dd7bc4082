// Settings by annotation: what each `config.linkerd.io/…` key sets, values < namespace < pod, nothing ignored
// in silence.
import { KEYS } from "../manifests/names.ts";
import { mergeTrees, type Values, valuesSchema } from "../manifests/values.ts";
import { check, schemaAt } from "../schema/index.ts";
import { parseDuration } from "../util/duration.ts";
import { errorMessage } from "../util/error.ts";
import { nearest } from "../util/nearest.ts";
import { formatPortSet, parsePortSet } from "../util/port-set.ts";
import type { StringMap } from "./workload.ts";

interface Setting {
  /** Path in the values. */
  readonly path: string;
  /** Annotation text to the text that the value's schema reads. @throws RangeError */
  readonly read?: (text: string) => string;
}

const onOff = (text: string): string => {
  if (text === "enabled" || text === "true") return "true";
  if (text === "disabled" || text === "false") return "false";
  throw new RangeError(`expected enabled or disabled, got ${JSON.stringify(text)}`);
};
const seconds = (text: string): string => String(Math.ceil(parseDuration(text) / 1000));

/** Annotations under `config.linkerd.io/` that have an effect. */
const SETTINGS: Readonly<Record<string, Setting>> = {
  "proxy-image": { path: "proxy.image.name" },
  "proxy-version": { path: "proxy.image.version" },
  "image-pull-policy": { path: "proxy.image.pullPolicy" },
  "inbound-port": { path: "proxy.ports.inbound" },
  "outbound-port": { path: "proxy.ports.outbound" },
  "control-port": { path: "proxy.ports.control" },
  "admin-port": { path: "proxy.ports.admin" },
  "skip-inbound-ports": { path: "proxyInit.ignoreInboundPorts" },
  "skip-outbound-ports": { path: "proxyInit.ignoreOutboundPorts" },
  "skip-subnets": { path: "proxyInit.skipSubnets" },
  "opaque-ports": { path: "proxy.opaquePorts" },
  "proxy-cpu-request": { path: "proxy.resources.cpu.request" },
  "proxy-cpu-limit": { path: "proxy.resources.cpu.limit" },
  "proxy-cpu-ratio-limit": { path: "proxy.coresRatio" },
  "proxy-memory-request": { path: "proxy.resources.memory.request" },
  "proxy-memory-limit": { path: "proxy.resources.memory.limit" },
  "proxy-ephemeral-storage-request": { path: "proxy.resources.ephemeral-storage.request" },
  "proxy-ephemeral-storage-limit": { path: "proxy.resources.ephemeral-storage.limit" },
  "proxy-uid": { path: "proxy.uid" },
  "proxy-gid": { path: "proxy.gid" },
  "proxy-log-level": { path: "proxy.logLevel" },
  "proxy-log-format": { path: "proxy.logFormat" },
  "access-log": { path: "proxy.accessLog" },
  "proxy-admin-shutdown": { path: "proxy.enableShutdownEndpoint", read: onOff },
  "enable-external-profiles": { path: "proxy.enableExternalProfiles", read: onOff },
  "proxy-require-identity-inbound-ports": { path: "proxy.requireIdentityOnInboundPorts" },
  "proxy-metrics-hostname-labels": { path: "proxy.metricsHostnameLabels", read: onOff },
  "proxy-outbound-connect-timeout": { path: "proxy.outboundConnectTimeout" },
  "proxy-inbound-connect-timeout": { path: "proxy.inboundConnectTimeout" },
  "proxy-outbound-discovery-cache-unused-timeout": { path: "proxy.outboundDiscoveryCacheUnusedTimeout" },
  "proxy-inbound-discovery-cache-unused-timeout": { path: "proxy.inboundDiscoveryCacheUnusedTimeout" },
  "proxy-disable-outbound-protocol-detect-timeout": {
    path: "proxy.disableOutboundProtocolDetectTimeout",
    read: onOff,
  },
  "proxy-disable-inbound-protocol-detect-timeout": {
    path: "proxy.disableInboundProtocolDetectTimeout",
    read: onOff,
  },
  "close-wait-timeout": { path: "proxyInit.closeWaitTimeoutSecs", read: seconds },
  "default-inbound-policy": { path: "proxy.defaultInboundPolicy" },
  "shutdown-grace-period": { path: "proxy.shutdownGracePeriod" },
  "proxy-enable-native-sidecar": { path: "proxy.nativeSidecar", read: onOff },
  "proxy-await": { path: "proxy.await", read: onOff },
  "proxy-log-http-headers": { path: "proxy.logHTTPHeaders" },
  "pod-inbound-ports": { path: "proxy.podInboundPorts" },
  "enable-gateway": { path: "proxy.isGateway", read: onOff },
  "enable-debug-sidecar": { path: "debugContainer.enabled", read: onOff },
  "debug-image": { path: "debugContainer.image.name" },
  "debug-image-version": { path: "debugContainer.image.version" },
  "debug-image-pull-policy": { path: "debugContainer.image.pullPolicy" },
  "proxy-additional-env": { path: "proxy.additionalEnv" },
};

/** Those under other prefixes: of what Linkerd was still trying, and of its extension viz. */
const OTHER_SETTINGS: Readonly<Record<string, Setting>> = {
  [`${KEYS.configAlpha}proxy-wait-before-exit-seconds`]: { path: "proxy.waitBeforeExitSeconds" },
  [`${KEYS.configAlpha}proxy-enable-native-sidecar`]: { path: "proxy.nativeSidecar", read: onOff },
  [`${KEYS.configBeta}proxy-enable-native-sidecar`]: { path: "proxy.nativeSidecar", read: onOff },
  [KEYS.disableTap]: { path: "proxy.tap.disabled", read: onOff },
};

/** Keys under the same prefix that are not injection's to read. */
const OTHERS = ["admission-webhooks"];

const SETTING_BY_KEY = new Map<string, Setting>([
  ...Object.entries(SETTINGS).map(([name, setting]) => [`${KEYS.config}${name}`, setting] as const),
  ...Object.entries(OTHER_SETTINGS),
]);

/** Keys of all annotations that change how a pod is meshed. */
export const SETTING_KEYS: readonly string[] = [...SETTING_BY_KEY.keys()];

/** The path in the values that `config.linkerd.io/<name>` sets. */
export const valuePathOf = (name: string): string | undefined => SETTINGS[name]?.path;

export interface Settings {
  readonly values: Values;
  /** What is wrong with annotations, each a sentence that names the key and where it is. */
  readonly problems: readonly string[];
}

/**
 * `values` with what the annotations of namespace and pod say. An invalid annotation leaves the value below it
 * in force and is reported.
 *
 * @param portNames resolves names in `opaque-ports` to the pod's container ports
 */
export function applyAnnotations(
  values: Values,
  namespace: StringMap,
  pod: StringMap,
  portNames: ReadonlyMap<string, number> = new Map(),
): Settings {
  const problems: string[] = [];
  let tree: unknown = values;
  const env: unknown[] = [...values.proxy.additionalEnv];
  for (const [where, annotations] of [
    ["the namespace", namespace],
    ["the pod", pod],
  ] as const) {
    for (const [key, text] of Object.entries(annotations)) {
      const read = readAnnotation(key, text, portNames);
      if (read === undefined) continue;
      if (typeof read === "string") problems.push(`annotation ${key} on ${where}: ${read}`);
      else if (read.path === "proxy.additionalEnv") env.push(...(read.value as unknown[]));
      else tree = mergeTrees(tree, nest(read.path, read.value));
    }
  }
  const merged = tree as Values;
  return {
    values: { ...merged, proxy: { ...merged.proxy, additionalEnv: lastByName(env) } },
    problems,
  };
}

/** Why an annotation under these prefixes has no effect; undefined when it has one. */
export function settingProblem(
  key: string,
  text: string,
  portNames: ReadonlyMap<string, number>,
): string | undefined {
  const read = readAnnotation(key, text, portNames);
  return typeof read === "string" ? read : undefined;
}

/** A value and its path, a problem, or undefined for a key that is not a setting. */
function readAnnotation(
  key: string,
  text: string,
  portNames: ReadonlyMap<string, number>,
): { path: string; value: unknown } | string | undefined {
  const setting = SETTING_BY_KEY.get(key);
  if (!setting) {
    const prefix = PREFIXES.find((each) => key.startsWith(each));
    if (prefix === undefined) return undefined;
    const name = key.slice(prefix.length);
    if (OTHERS.includes(name)) return undefined;
    const near = nearestSetting(key, name);
    return near === undefined ? "unknown annotation" : `unknown annotation; did you mean ${near}?`;
  }
  try {
    const named = NAMED_PORTS.includes(setting.path) ? numbered(text, portNames) : text;
    const schema = schemaAt(valuesSchema, setting.path);
    if ("message" in schema) throw new Error(schema.message);
    const { value, problems } = check(schema, schema.fromText((setting.read ?? String)(named)));
    return problems.length > 0
      ? problems.map((problem) => problem.message).join("; ")
      : { path: setting.path, value };
  } catch (error) {
    return errorMessage(error);
  }
}

/** Values in which a port may be given by its name. */
const NAMED_PORTS = ["proxy.opaquePorts", "proxy.podInboundPorts"];

/** Prefixes of settings, the longer first. */
const PREFIXES = [KEYS.configAlpha, KEYS.configBeta, KEYS.config];

function nearestSetting(key: string, name: string): string | undefined {
  const same = SETTING_KEYS.find((known) => known.endsWith(`/${name}`));
  if (same !== undefined) return same;
  const near = nearest(name, Object.keys(SETTINGS));
  return near === undefined ? nearest(key, SETTING_KEYS, 2) : `${KEYS.config}${near}`;
}

/** A port set with the names of ports replaced by their numbers. @throws RangeError */
function numbered(text: string, portNames: ReadonlyMap<string, number>): string {
  const items = text.split(",").map((item) => item.trim());
  return formatPortSet(
    parsePortSet(
      items
        .map((item) => {
          if (item === "" || /^\d/.test(item)) return item;
          const port = portNames.get(item);
          if (port === undefined) throw new RangeError(`no port is named ${JSON.stringify(item)}`);
          return String(port);
        })
        .join(","),
    ),
  );
}

const nest = (path: string, value: unknown): unknown =>
  path.split(".").reduceRight<unknown>((inner, name) => ({ [name]: inner }), value);

function lastByName(env: readonly unknown[]): Readonly<Record<string, unknown>>[] {
  const byName = new Map(
    env.map((item) => [(item as { name?: string }).name, item as Record<string, unknown>]),
  );
  return [...byName.values()];
}
