/** `BUILD` names the folder of built files, so that several builds can stand side by side. */
const build = process.env.BUILD ?? 'build'

export default {
  files: [`${build}/test/**/*.test.js`],
  timeout: '2m',
}
