// Where manifests come from: a file, a directory, standard input, or an https URL.
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { text as readAll } from "node:stream/consumers";
import { MeshError } from "../util/error.ts";

export interface Input {
  /** For messages: the path, the URL, or `-`. */
  readonly name: string;
  readonly text: string;
}

const MANIFEST = /\.(ya?ml|json)$/;
const FETCH_TIMEOUT_MS = 30_000;

/** @throws MeshError, or the system's error with its path */
export async function readInputs(
  source: string,
  stdin: NodeJS.ReadableStream = process.stdin,
): Promise<Input[]> {
  if (source === "-") return [{ name: "-", text: await readAll(stdin) }];
  if (source.startsWith("http://")) {
    throw new MeshError(
      "manifests are not fetched over plain http, where anybody on the way could change them",
      {
        hints: [`use https, or download the file first: ${source}`],
      },
    );
  }
  if (source.startsWith("https://")) return [{ name: source, text: await fetchText(source) }];
  if (!(await stat(source)).isDirectory()) return [{ name: source, text: await readFile(source, "utf8") }];
  const entries = await readdir(source, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && MANIFEST.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
  if (files.length === 0) throw new MeshError(`${source} holds no .yaml, .yml or .json file`);
  return Promise.all(files.map(async (name) => ({ name, text: await readFile(name, "utf8") })));
}

async function fetchText(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) }).catch((cause) => {
    throw new MeshError(`cannot fetch ${url}: ${cause.cause?.message ?? cause.message}`, { cause });
  });
  if (!response.ok) throw new MeshError(`cannot fetch ${url}: it answered ${response.status}`);
  return response.text();
}

/** Streams joined to one, with a marker between documents. */
export function joinStreams(texts: readonly string[]): string {
  return texts
    .filter((text) => text.trim() !== "")
    .map((text, index) => {
      const ended = text.endsWith("\n") ? text : `${text}\n`;
      return index === 0 || ended.startsWith("---") ? ended : `---\n${ended}`;
    })
    .join("");
}
