// The policy controller, alone in its process, without its webhook.
import { setUpPolicy } from "../../src/controller/policy/main.ts";
import { serve } from "./serve.ts";

await serve((run) => run("policy", {}, (process) => setUpPolicy(process).serving));
