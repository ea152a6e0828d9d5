// Command line of the scripts in this folder: `--name value` and `--flag`, unknown names are refused.

/** `known` maps each name to its default; a boolean default makes it a flag, a number is parsed as one. */
export function parseOptions(argv, known) {
  const options = { ...known };
  for (let i = 0; i < argv.length; i++) {
    const name = argv[i].replace(/^--/, '');
    if (!argv[i].startsWith('--') || !(name in known)) usage(`unknown argument ${argv[i]}`, known);
    if (typeof known[name] === 'boolean') {
      options[name] = true;
      continue;
    }
    const value = argv[++i];
    if (value === undefined) usage(`${argv[i - 1]} needs a value`, known);
    options[name] = typeof known[name] === 'number' ? number(value, name, known) : value;
  }
  return options;
}

function number(text, name, known) {
  const value = Number(text);
  if (text === '' || !Number.isFinite(value)) usage(`--${name} needs a number, not ${text}`, known);
  return value;
}

/** Exit status 2 tells a caller that the call was wrong, not the stream. */
export function usage(message, known) {
  console.error(`${message}\noptions: ${Object.keys(known).map((n) => `--${n}`).join(' ')}`);
  process.exit(2);
}
