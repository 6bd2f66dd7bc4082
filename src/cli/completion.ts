// Answers kubectl's question for the words after `kubectl mesh`: candidates, one a line with an optional
// description, and a last line `:N` with cobra's ShellCompDirective. Knows the commands from oclif's manifest;
// names in the cluster come from look-ups that the caller gives and bounds.

/** cobra's directives that we use: file names are welcome, or not. */
const DIRECTIVE = { files: 0, noFiles: 4 } as const;

export interface ManifestFlag {
  readonly name: string;
  readonly char?: string;
  readonly type: "boolean" | "option";
  readonly summary?: string;
  readonly options?: readonly string[];
  readonly multiple?: boolean;
  readonly hidden?: boolean;
  readonly aliases?: readonly string[];
}

export interface ManifestCommand {
  readonly id: string;
  readonly aliases?: readonly string[];
  readonly hidden?: boolean;
  readonly summary?: string;
  readonly args?: Readonly<Record<string, { readonly name: string; readonly options?: readonly string[] }>>;
  readonly flags?: Readonly<Record<string, ManifestFlag>>;
}

/** Names that only the cluster or the machine knows; each may come back empty. */
export interface Lookups {
  namespaces(): Promise<string[]>;
  contexts(): Promise<string[]>;
  kinds(): string[];
  /** Names of a kind in the namespace that was typed, or the context's. */
  names(kind: string, namespace: string | undefined): Promise<string[]>;
}

export interface Candidate {
  readonly text: string;
  readonly about?: string;
}

export interface Completion {
  readonly candidates: readonly Candidate[];
  readonly directive: number;
}

/** What the words after a command are, where the manifest cannot say. */
const WORDS: Record<string, "resources" | "pods" | "files"> = {
  stat: "resources",
  top: "resources",
  identity: "pods",
  inject: "files",
  uninject: "files",
};
const FILE_FLAGS = new Set(["kubeconfig", "filename", "values", "set-file", "dir"]);

/** @param words those after `kubectl mesh`; the last is the one being typed, perhaps empty */
export async function complete(
  words: readonly string[],
  commands: Readonly<Record<string, ManifestCommand>>,
  lookups: Lookups,
): Promise<Completion> {
  const typed = words.slice(0, -1);
  const partial = words.at(-1) ?? "";
  const all = expandAliases(commands);
  const { command, id, rest, namespace } = read(typed, all);

  const before = typed.at(-1);
  const flag =
    command && before?.startsWith("-") && !before.includes("=") ? flagOf(command, before) : undefined;
  if (flag?.type === "option") return values(flag, "", partial, namespace, lookups);
  if (partial.startsWith("-")) {
    const equals = partial.indexOf("=");
    const assigned = command && equals > 0 ? flagOf(command, partial.slice(0, equals)) : undefined;
    if (assigned) {
      return values(assigned, partial.slice(0, equals + 1), partial.slice(equals + 1), namespace, lookups);
    }
    return flagNames(command, typed, partial);
  }
  const next = command || rest.length === 0 ? subcommands(all, id, partial) : [];
  if (!command || (rest.length === 0 && next.length > 0)) return answer(next, partial);
  return positional(command, rest, partial, namespace, lookups);
}

/** The answer as kubectl reads it. */
export function renderCompletion({ candidates, directive }: Completion): string {
  const lines = candidates.map(({ text, about }) =>
    about ? `${text}\t${about.replaceAll("\n", " ")}` : text,
  );
  return `${[...lines, `:${directive}`].join("\n")}\n`;
}

function expandAliases(commands: Readonly<Record<string, ManifestCommand>>): Map<string, ManifestCommand> {
  const all = new Map<string, ManifestCommand>();
  for (const command of Object.values(commands)) {
    if (command.hidden) continue;
    for (const id of [command.id, ...(command.aliases ?? [])]) all.set(id.replaceAll(":", " "), command);
  }
  return all;
}

/** Which command the typed words name, and what they give besides it. */
function read(typed: readonly string[], all: Map<string, ManifestCommand>) {
  let id = "";
  let command: ManifestCommand | undefined;
  let namespace: string | undefined;
  const rest: string[] = [];
  for (let i = 0; i < typed.length; i += 1) {
    const word = typed[i]!;
    if (word.startsWith("-")) {
      const [name = "", value] = word.split("=", 2);
      const flag = command && flagOf(command, name);
      const given = flag?.type === "option" && value === undefined ? typed[++i] : value;
      if (flag?.name === "namespace") namespace = given;
      continue;
    }
    const longer = id === "" ? word : `${id} ${word}`;
    const isPrefix = [...all.keys()].some((key) => key === longer || key.startsWith(`${longer} `));
    if (rest.length === 0 && isPrefix) {
      id = longer;
      command = all.get(id);
    } else rest.push(word);
  }
  return { id, command, rest, namespace };
}

function flagOf(command: ManifestCommand, word: string): ManifestFlag | undefined {
  const flags = Object.values(command.flags ?? {});
  if (word.startsWith("--")) {
    const name = word.slice(2);
    return flags.find((flag) => flag.name === name || flag.aliases?.includes(name));
  }
  return flags.find((flag) => flag.char === word.slice(1));
}

function subcommands(all: Map<string, ManifestCommand>, id: string, partial: string): Candidate[] {
  const prefix = id === "" ? "" : `${id} `;
  const found = new Map<string, string>();
  for (const [key, command] of all) {
    if (!key.startsWith(prefix)) continue;
    const [word = "", ...deeper] = key.slice(prefix.length).split(" ");
    if (!word.startsWith(partial)) continue;
    if (deeper.length === 0) found.set(word, command.summary ?? "");
    else if (!found.has(word)) found.set(word, "");
  }
  return [...found].map(([text, about]) => ({ text, about })).sort((a, b) => (a.text < b.text ? -1 : 1));
}

function flagNames(
  command: ManifestCommand | undefined,
  typed: readonly string[],
  partial: string,
): Completion {
  const candidates = Object.values(command?.flags ?? {})
    .filter((flag) => !flag.hidden && (flag.multiple || !typed.includes(`--${flag.name}`)))
    .map((flag) => ({ text: `--${flag.name}`, about: flag.summary ?? "" }));
  return answer([...candidates, { text: "--help", about: "Show help." }], partial);
}

async function values(
  flag: ManifestFlag,
  prefix: string,
  partial: string,
  namespace: string | undefined,
  lookups: Lookups,
): Promise<Completion> {
  if (FILE_FLAGS.has(flag.name)) return { candidates: [], directive: DIRECTIVE.files };
  let texts: readonly string[] = flag.options ?? [];
  if (/namespace$/.test(flag.name)) texts = await lookups.namespaces();
  else if (flag.name === "context") texts = await lookups.contexts();
  else if (flag.name === "to" || flag.name === "from") texts = await resources(partial, namespace, lookups);
  return answer(
    texts.map((text) => ({ text: prefix + text })),
    prefix + partial,
  );
}

async function positional(
  command: ManifestCommand,
  rest: readonly string[],
  partial: string,
  namespace: string | undefined,
  lookups: Lookups,
): Promise<Completion> {
  const texts = (list: readonly string[]) =>
    answer(
      list.filter((text) => !rest.includes(text)).map((text) => ({ text })),
      partial,
    );
  switch (WORDS[command.id]) {
    case "files":
      return { candidates: [], directive: DIRECTIVE.files };
    case "pods":
      return texts(await lookups.names("pod", namespace));
    case "resources": {
      const kind = rest[0];
      if (kind !== undefined && !kind.includes("/")) return texts(await lookups.names(kind, namespace));
      return texts(await resources(partial, namespace, lookups));
    }
    default: {
      const arg = Object.values(command.args ?? {})[rest.length];
      return texts(arg?.options ?? []);
    }
  }
}

/** Kinds, or after a slash the names of one. */
async function resources(
  partial: string,
  namespace: string | undefined,
  lookups: Lookups,
): Promise<string[]> {
  const slash = partial.indexOf("/");
  if (slash < 0) return lookups.kinds();
  const kind = partial.slice(0, slash);
  return (await lookups.names(kind, namespace)).map((name) => `${kind}/${name}`);
}

function answer(candidates: readonly Candidate[], partial: string): Completion {
  return {
    candidates: candidates.filter(({ text }) => text.startsWith(partial)),
    directive: DIRECTIVE.noFiles,
  };
}
