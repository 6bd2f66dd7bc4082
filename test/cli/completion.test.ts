// What the shell is offered at ⇥.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { complete, type Lookups, type ManifestCommand, renderCompletion } from "../../src/cli/completion.ts";

const test = suite("completion");

const flags: ManifestCommand["flags"] = {
  namespace: { name: "namespace", char: "n", type: "option", summary: "Namespace." },
  output: { name: "output", char: "o", type: "option", options: ["table", "json"] },
  context: { name: "context", type: "option" },
  kubeconfig: { name: "kubeconfig", type: "option" },
  to: { name: "to", type: "option" },
  verbose: { name: "verbose", type: "boolean" },
};
const commands: Record<string, ManifestCommand> = {
  stat: { id: "stat", aliases: ["viz:stat"], summary: "Show metrics.", flags },
  version: { id: "version", flags },
  identity: { id: "identity", flags },
  inject: { id: "inject", flags },
  "sandbox:up": { id: "sandbox:up", summary: "Start.", flags },
  "sandbox:down": { id: "sandbox:down", flags },
  completion: {
    id: "completion",
    args: { shell: { name: "shell", options: ["bash", "zsh", "fish"] } },
    flags,
  },
  secret: { id: "secret", hidden: true },
};
const lookups: Lookups = {
  namespaces: async () => ["default", "demo"],
  contexts: async () => ["kind", "prod"],
  kinds: () => ["deploy", "po"],
  names: async (kind, namespace) => [`${kind}-a`, `${namespace ?? "none"}-b`],
};

const cases: [string, string[], number?][] = [
  ["", ["completion", "identity", "inject", "sandbox", "stat", "version", "viz"]],
  ["s", ["sandbox", "stat"]],
  ["sandbox ", ["down", "up"]],
  ["viz ", ["stat"]],
  ["stat ", ["deploy", "po"]],
  ["viz stat d", ["deploy"]],
  ["stat deploy/", ["deploy/deploy-a", "deploy/none-b"]],
  ["stat deploy ", ["deploy-a", "none-b"]],
  ["stat deploy -n demo ", ["deploy-a", "demo-b"]],
  ["stat deploy --namespace=demo de", ["deploy-a", "demo-b"]],
  ["stat --o", ["--output"]],
  ["stat --verbose --v", []],
  ["stat -o ", ["table", "json"]],
  ["stat -o j", ["json"]],
  ["stat --output=j", ["--output=json"]],
  ["stat -n d", ["default", "demo"]],
  ["stat --context ", ["kind", "prod"]],
  ["stat deploy --to po/", ["po/po-a", "po/none-b"]],
  ["stat --kubeconfig ", [], 0],
  ["identity -n demo d", ["demo-b"]],
  ["inject ", [], 0],
  ["completion ", ["bash", "zsh", "fish"]],
  ["completion bash ", []],
  ["nonsense ", []],
];

for (const [line, expected, directive] of cases) {
  test(`kubectl mesh ${line}⇥`, async () => {
    const completion = await complete(line.split(" "), commands, lookups);
    assert.equal(
      completion.candidates.map(({ text }) => text),
      expected,
    );
    assert.is(completion.directive, directive ?? 4);
  });
}

test("the answer is lines with descriptions after a tab, and the directive last", async () => {
  assert.is(renderCompletion(await complete(["sta"], commands, lookups)), "stat\tShow metrics.\n:4\n");
});

test.run();
