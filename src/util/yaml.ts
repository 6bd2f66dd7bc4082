// The YAML library behind one ES module: a bundle's dynamic import of a CommonJS package has no named exports.
export { parse, parseAllDocuments, stringify } from "yaml";
