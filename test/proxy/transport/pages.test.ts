// Pages for forwarded bytes: used again, and let go when memory is given back.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { dropPages, givePage, takePage } from "../../../src/proxy/transport/pages.ts";

const test = suite("pages");

test("a page that was given back is the next that is taken", () => {
  const page = takePage();
  givePage(page);
  assert.is(takePage(), page);
});

test("pages that were let go are not taken again", () => {
  const page = takePage();
  givePage(page);
  dropPages();
  assert.is.not(takePage(), page);
});

test.run();
