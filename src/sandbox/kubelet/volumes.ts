// A pod's volumes: made before its containers start, kept up to date while it runs.
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, normalize } from "node:path";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { Cluster, Json, KubeObject } from "../cluster.ts";
import { runCommand } from "../network/command.ts";
import { type VolumeFile, writeAtomically } from "./atomic-directory.ts";
import { ConfigError, type EnvironmentSources, expand, fieldValue, resourceValue } from "./environment.ts";
import { parseQuantity } from "./quantity.ts";
import type { Mount } from "./root-fs.ts";

/** Share of a token's life after which it is renewed; a real kubelet's. */
const TOKEN_RENEWAL = 0.8;
/** How soon a token is asked for again after a failure, ms. */
const TOKEN_RETRY_MS = 5_000;

/** A volume cannot be made (yet): the pod waits in ContainerCreating with a FailedMount event. */
export class VolumeError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "VolumeError";
  }
}

export type VolumeSources = Omit<EnvironmentSources, "container" | "services">;

export interface VolumesOptions {
  readonly cluster: Cluster;
  readonly clock: Clock;
  /** Of the pod; volumes live below it. */
  readonly directory: string;
  /** The pod's present state and what its volumes may refer to. */
  readonly sources: () => VolumeSources;
}

interface Token {
  readonly token: string;
  readonly renewAt: number;
}

export class Volumes {
  readonly #options: VolumesOptions;
  readonly #tokens = new Map<string, Token>();
  readonly #paths = new Map<string, string>();
  readonly #tmpfs: string[] = [];
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: VolumesOptions) {
    this.#options = options;
  }

  /** Makes all volumes. @throws VolumeError */
  async prepare(): Promise<void> {
    for (const volume of this.#volumes()) {
      try {
        await this.#prepare(volume);
      } catch (error) {
        throw new VolumeError(
          `MountVolume.SetUp failed for volume ${JSON.stringify(volume.name)} : ${errorMessage(error)}`,
        );
      }
    }
    this.#schedule();
  }

  /** Writes again what changed in the objects that volumes show. Failures leave the old content. */
  async refresh(): Promise<void> {
    for (const volume of this.#volumes()) {
      if (this.#stopped || !this.#paths.has(volume.name) || !isData(volume)) continue;
      try {
        await this.#writeData(volume);
      } catch {
        // The object has gone or lacks a key now: what is there stays, as with a real kubelet.
      }
    }
    this.#schedule();
  }

  /** Whether a volume shows this ConfigMap or Secret. */
  refersTo(resource: "configmaps" | "secrets", name: string): boolean {
    const own = resource === "configmaps" ? "configMap" : "secret";
    return this.#volumes().some((volume) =>
      [volume, ...(volume.projected?.sources ?? [])].some(
        (source: Json) => source[own] && (source[own].name ?? source[own].secretName) === name,
      ),
    );
  }

  /** The mounts of a container. @throws ConfigError */
  mounts(container: Json, environment: Readonly<Record<string, string>>): Mount[] {
    return (container.volumeMounts ?? []).map((mount: Json): Mount => {
      const path = this.#paths.get(mount.name);
      if (path === undefined) throw new ConfigError(`volume ${JSON.stringify(mount.name)} not found`);
      const volume = this.#volumes().find((each) => each.name === mount.name);
      const sub = mount.subPathExpr
        ? expand(mount.subPathExpr, (name) => environment[name])
        : (mount.subPath ?? "");
      return {
        source: sub === "" ? path : this.#subPath(path, sub, isData(volume)),
        target: mount.mountPath,
        readOnly: mount.readOnly === true || isData(volume),
        recursive: volume?.hostPath !== undefined,
      };
    });
  }

  /** Ends all upkeep; what is on disk stays. */
  async release(): Promise<void> {
    this.#stopped = true;
    this.#options.clock.clear(this.#timer);
    for (const path of this.#tmpfs.splice(0)) await runCommand("umount", ["-l", path]).catch(() => {});
  }

  /** Takes everything away. */
  async remove(): Promise<void> {
    await this.release();
    rmSync(join(this.#options.directory, "volumes"), { recursive: true, force: true });
  }

  #volumes(): Json[] {
    return this.#options.sources().pod.spec.volumes ?? [];
  }

  #subPath(path: string, sub: string, data: boolean): string {
    const inside = normalize(sub);
    if (inside.startsWith("..") || inside.startsWith("/"))
      throw new ConfigError(`subPath ${sub} must stay in its volume`);
    const full = join(path, inside);
    if (!existsSync(full)) {
      if (data) throw new ConfigError(`subPath ${sub} does not exist in its volume`);
      mkdirSync(full, { recursive: true });
      chmodSync(full, statSync(path).mode & 0o7777);
    }
    const real = realpathSync(full);
    if (!`${real}/`.startsWith(`${realpathSync(path)}/`))
      throw new ConfigError(`subPath ${sub} leaves its volume`);
    return real;
  }

  async #prepare(volume: Json): Promise<void> {
    const path = join(this.#options.directory, "volumes", volume.name);
    if (isData(volume)) {
      await this.#writeData(volume);
      this.#paths.set(volume.name, path);
    } else if (volume.emptyDir) {
      if (!this.#paths.has(volume.name)) await this.#emptyDir(volume.emptyDir, path);
      this.#paths.set(volume.name, path);
    } else if (volume.hostPath) {
      hostPath(volume.hostPath);
      this.#paths.set(volume.name, volume.hostPath.path);
    } else {
      const kind = Object.keys(volume).find((key) => key !== "name");
      throw new Error(`the sandbox has no volumes of type ${kind}; use emptyDir or hostPath`);
    }
  }

  async #emptyDir(source: Json, path: string): Promise<void> {
    mkdirSync(path, { recursive: true });
    if (source.medium === "Memory") {
      const size = source.sizeLimit ? `,size=${Math.ceil(parseQuantity(source.sizeLimit))}` : "";
      await runCommand("mount", ["-t", "tmpfs", "-o", `mode=0777${size}`, "tmpfs", path]);
      this.#tmpfs.push(path);
    }
    const group = this.#group();
    if (group !== undefined) chownSync(path, -1, group);
    chmodSync(path, group === undefined ? 0o777 : 0o2777);
  }

  #group(): number | undefined {
    return this.#options.sources().pod.spec.securityContext?.fsGroup;
  }

  async #writeData(volume: Json): Promise<void> {
    const files = await this.#files(volume);
    const path = join(this.#options.directory, "volumes", volume.name);
    writeAtomically(path, files, this.#group());
  }

  async #files(volume: Json): Promise<Map<string, VolumeFile>> {
    const files = new Map<string, VolumeFile>();
    const sources = volume.projected ? (volume.projected.sources ?? []) : [volume];
    const mode =
      (volume.projected ?? volume.configMap ?? volume.secret ?? volume.downwardAPI)?.defaultMode ?? 0o644;
    for (const [i, source] of sources.entries()) {
      if (source.configMap) {
        this.#keys("configmap", source.configMap, source.configMap.name, mode, files);
      } else if (source.secret) {
        this.#keys("secret", source.secret, source.secret.secretName ?? source.secret.name, mode, files);
      } else if (source.downwardAPI) {
        for (const item of source.downwardAPI.items ?? []) files.set(item.path, this.#downward(item, mode));
      } else if (source.serviceAccountToken) {
        const token = await this.#token(`${volume.name}/${i}`, source.serviceAccountToken);
        files.set(source.serviceAccountToken.path, { data: Buffer.from(token), mode });
      }
    }
    return files;
  }

  #keys(
    kind: "configmap" | "secret",
    source: Json,
    name: string,
    mode: number,
    files: Map<string, VolumeFile>,
  ): void {
    const { cluster, sources } = this.#options;
    const namespace = sources().pod.metadata.namespace;
    const object = cluster.get({ group: "", resource: `${kind}s`, namespace, name });
    if (!object) {
      if (source.optional) return;
      throw new Error(`${kind} ${JSON.stringify(name)} not found`);
    }
    const data = dataOf(object);
    if (!source.items) {
      for (const [key, value] of data) files.set(key, { data: value, mode });
      return;
    }
    for (const item of source.items) {
      const value = data.get(item.key);
      if (value !== undefined) files.set(item.path, { data: value, mode: item.mode ?? mode });
      else if (!source.optional) throw new Error(`references non-existent ${kind} key: ${item.key}`);
    }
  }

  #downward(item: Json, mode: number): VolumeFile {
    const sources = this.#options.sources();
    const text = item.fieldRef
      ? fieldValue(item.fieldRef.fieldPath, sources)
      : resourceValue(item.resourceFieldRef, sources);
    return { data: Buffer.from(text), mode: item.mode ?? mode };
  }

  async #token(key: string, source: Json): Promise<string> {
    const { cluster, clock, sources } = this.#options;
    const known = this.#tokens.get(key);
    if (known && clock.now() < known.renewAt) return known.token;
    const { metadata, spec } = sources().pod;
    try {
      const { token, expirationTimestamp } = await cluster.requestToken(
        metadata.namespace!,
        spec.serviceAccountName ?? "default",
        {
          audiences: source.audience ? [source.audience] : undefined,
          expirationSeconds: source.expirationSeconds ?? 3600,
          pod: { name: metadata.name, uid: metadata.uid! },
        },
      );
      const life = Date.parse(expirationTimestamp) - clock.now();
      this.#tokens.set(key, { token, renewAt: clock.now() + life * TOKEN_RENEWAL });
      return token;
    } catch (error) {
      if (!known) throw error;
      this.#tokens.set(key, { token: known.token, renewAt: clock.now() + TOKEN_RETRY_MS });
      return known.token;
    }
  }

  /** Wakes when the first token wants renewal. */
  #schedule(): void {
    const { clock } = this.#options;
    clock.clear(this.#timer);
    this.#timer = undefined;
    if (this.#stopped || this.#tokens.size === 0) return;
    const next = Math.min(...[...this.#tokens.values()].map((token) => token.renewAt));
    this.#timer = clock.after(Math.max(1_000, next - clock.now()), () => void this.refresh());
  }
}

/** A volume made of API objects: read-only, updated in place. */
function isData(volume: Json): boolean {
  return Boolean(volume?.configMap || volume?.secret || volume?.downwardAPI || volume?.projected);
}

/** What a ConfigMap or Secret holds, as bytes. */
export function dataOf(object: KubeObject): Map<string, Buffer> {
  const secret = object.kind === "Secret" || object["type"] !== undefined;
  const result = new Map<string, Buffer>();
  for (const [key, value] of Object.entries<string>(object["data"] ?? {})) {
    result.set(key, Buffer.from(value, secret ? "base64" : "utf8"));
  }
  for (const [key, value] of Object.entries<string>(object["binaryData"] ?? {})) {
    result.set(key, Buffer.from(value, "base64"));
  }
  return result;
}

/** Checks, or makes, what a hostPath volume names. */
function hostPath(source: Json): void {
  const { path, type } = source;
  const stat = statSync(path, { throwIfNoEntry: false });
  if (type === "DirectoryOrCreate" && !stat) mkdirSync(path, { recursive: true, mode: 0o755 });
  else if (type === "FileOrCreate" && !stat) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, "");
  } else if (!stat) throw new Error(`hostPath ${path} does not exist`);
  else if (type === "Directory" && !stat.isDirectory())
    throw new Error(`hostPath ${path} is not a directory`);
  else if (type === "File" && !stat.isFile()) throw new Error(`hostPath ${path} is not a file`);
}
