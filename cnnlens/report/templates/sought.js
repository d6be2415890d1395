// What a search asks for: every word counts, and what stands in quotes is one of them. A `number` is
// a unit's where it is said alone or as "unit 155", and nothing but a unit's in the second case.
function soughtIn(text) {
  const found = text.toLowerCase().matchAll(/"([^"]*)(?:"|$)|units?\s+(\d+)(?!\S)|[^\s"]+/g);
  return Array.from(found, ([whole, quoted, unit]) => {
    const said = (quoted ?? unit ?? whole).trim(), isNumber = quoted === undefined && /^\d+$/.test(said);
    return { text: said, number: isNumber ? Number(said) : null, isUnit: unit !== undefined };
  }).filter((word) => word.text);
}

// Whether a word names a layer: all of its path, or the first modules of it.
const namesLayer = (name, { text }) => `${name.toLowerCase()}.`.startsWith(`${text}.`);
const namesUnit = (name, unit, { text }) => `${name.toLowerCase()}:${unit}` === text;
