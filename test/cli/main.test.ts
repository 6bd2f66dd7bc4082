// The command line as a process: help, unknown words, exit codes.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { runCommand } from "../support/run-command.ts";

test("help names the program as kubectl users type it", async () => {
  const { stdout, code } = await runCommand("version", "--help");
  assert.is(code, 0);
  assert.match(stdout, "$ kubectl mesh version");
});

test("`help COMMAND` is `COMMAND --help`", async () => {
  assert.equal(await runCommand("help", "version"), await runCommand("version", "--help"));
});

test("an unknown command suggests the nearest and exits 2", async () => {
  const { stderr, stdout, code } = await runCommand("verson");
  assert.is(code, 2);
  assert.is(stdout, "");
  assert.match(stderr, 'Error: there is no command "verson"');
  assert.match(stderr, "did you mean: kubectl mesh version");
});

test("an unknown flag is a usage error that names the command's help", async () => {
  const { stderr, code } = await runCommand("version", "--nope");
  assert.is(code, 2);
  assert.match(stderr, "nonexistent flag: --nope");
  assert.match(stderr, "kubectl mesh version --help");
});

test("a wrong value of -o lists the right ones", async () => {
  const { stderr, code } = await runCommand("version", "-o", "xml");
  assert.is(code, 2);
  assert.match(stderr, "table, json, yaml");
});

test.run();
