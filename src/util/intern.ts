// One copy of strings that many records have: names of nodes, zones, namespaces, ServiceAccounts.

/** Strings that are known at the same time; then we begin anew, and what is in use stays with who uses it. */
const MAX_KNOWN = 20_000;

let known = new Map<string, string>();

/** The same text as the same string as before, so that equal ones are kept in memory once. */
export function intern(text: string): string {
  const found = known.get(text);
  if (found !== undefined) return found;
  if (known.size >= MAX_KNOWN) known = new Map();
  known.set(text, text);
  return text;
}
