-- What all parts of the filter share: the format, the numbers given out, the problems found.

local M = { html = FORMAT:match("^html") ~= nil, targets = {}, problems = {} }
M.words = { fig = "Figure", tbl = "Table", eq = "Equation", sec = "Section" }
M.callouts = { note = "Note", tip = "Tip", important = "Important", warning = "Warning",
               caution = "Caution" }
local html, counts = M.html, { fig = 0, tbl = 0, eq = 0 }

-- `token` is what to look for in the sources, to tell file and line.
function M.problem(token, message)
  M.problems[#M.problems + 1] = token .. "\t" .. message
end

function M.escape(text)
  if html then
    return (text:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
  end
  return (text:gsub('[\\"]', "\\%0"))
end

function M.raw(text) return pandoc.RawBlock(html and "html" or "typst", text) end
function M.raw_inline(text) return pandoc.RawInline(html and "html" or "typst", text) end

function M.prefix_of(id) return id:match("^(%a+)%-") end

-- What `@id` will say, for every numbered thing; `number` may be nil (an unnumbered section).
function M.register(id, number, title)
  if id == "" then return end
  if M.targets[id] then M.problem(id, "the id '" .. id .. "' is used twice") end
  M.targets[id] = { word = M.words[M.prefix_of(id)], number = number, title = title }
end

function M.next_number(kind)
  counts[kind] = counts[kind] + 1
  return tostring(counts[kind])
end

return M
