// Stands in for optional packages that must not be bundled.
export default {};
