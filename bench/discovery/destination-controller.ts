// The destination controller, alone in its process.
import { main } from "../../src/controller/destination/main.ts";
import { serve } from "./serve.ts";

await serve(main);
