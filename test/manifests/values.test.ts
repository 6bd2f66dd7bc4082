// Values: defaults, text, and problems told by their path.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DEFAULT_VALUES, mergeTrees, readValues, treeOfSets } from "../../src/manifests/values.ts";

const set = (...items: string[]) => readValues(mergeTrees(DEFAULT_VALUES, treeOfSets(items)));

test("the defaults are valid values, also after a round trip through JSON", () => {
  assert.equal(readValues({}), DEFAULT_VALUES);
  assert.equal(readValues(JSON.parse(JSON.stringify(DEFAULT_VALUES))), DEFAULT_VALUES);
});

test("--set reads text as its schema expects it", () => {
  const values = set(
    "proxy.cores=2",
    "proxy.image.version=1",
    "proxy.nativeSidecar=false",
    "proxy.logLevel=warn,linkerd=debug",
    "proxy.defaultInboundPolicy=deny",
    "clusterNetworks=10.0.0.0/8,fd00::/8",
    'proxy.additionalEnv=[{"name":"A","value":"b"}]',
  );
  assert.is(values.proxy.cores, 2);
  assert.is(values.proxy.image.version, "1");
  assert.is(values.proxy.nativeSidecar, false);
  assert.is(values.proxy.logLevel, "warn,linkerd=debug");
  assert.is(values.proxy.defaultInboundPolicy, "deny");
  assert.equal(values.proxy.additionalEnv, [{ name: "A", value: "b" }]);
  assert.is(values.proxy.uid, 2102);
});

test("problems name the path, what was expected and what came", () => {
  for (const [items, message] of [
    [["proxy.uid=root"], 'values: proxy.uid: expected an integer from -1 to 2147483647, got "root"'],
    [["proxy.loglevel=x"], "--set: proxy.loglevel: unknown name; did you mean logLevel?"],
    [["proxy.uid.x=1"], "--set: proxy.uid.x: there is nothing below proxy.uid"],
    [["proxy"], '--set: expected name=value, got "proxy"'],
    [
      ["identity.issuer.issuanceLifetime=soon"],
      "values: identity.issuer.issuanceLifetime: expected a duration",
    ],
    [["clusterDomain=Bad_Domain"], "values: clusterDomain: expected a DNS domain"],
  ] as const) {
    assert.throws(
      () => set(...items),
      (error: Error) => error.message.startsWith(message) || assert.is(error.message, message),
    );
  }
  assert.throws(
    () =>
      readValues(
        { proxy: { ports: { admin: 0 }, nativeSidecars: true }, clusterNetworks: "10/8" },
        "my.yaml",
      ),
    /my\.yaml: 3 problems\n {2}clusterNetworks: .*\n {2}proxy\.nativeSidecars: unknown name; did you mean nativeSidecar\?\n {2}proxy\.ports\.admin: /,
  );
});

test.run();
