// The type of the one file of node-forge that is imported by itself, so that no more of it is bundled.
declare module "node-forge/lib/asn1.js" {
  import { asn1 } from "node-forge";
  export default asn1;
  export = asn1;
}
