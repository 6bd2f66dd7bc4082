// Replays what the fuzz targets were fed before: seeds, and everything that was ever found.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { corpus, TARGETS } from "./targets.ts";

const test = suite("fuzz corpora");

for (const [name, load] of Object.entries(TARGETS)) {
  test(`${name}: every kept input is taken as promised`, async () => {
    const { fuzz } = await load();
    const inputs = corpus(name);
    assert.ok(inputs.length > 0, "there are seeds");
    for (const [file, bytes] of inputs) {
      try {
        fuzz(bytes);
      } catch (error) {
        throw new Error(`${name}/${file}`, { cause: error });
      }
    }
  });
}

test.run();
