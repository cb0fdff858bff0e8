-- Before anything else: what the rest of the filter does not know is a problem, not a loss.

local common = require("common")
local callouts, problem = common.callouts, common.problem

local known_divs = { answer = true, answers = true, provenance = true, small = true, refs = true }
local known_attributes = { ["layout-ncol"] = true, title = true, collapse = true, icon = true,
                           appearance = true, ["tbl-colwidths"] = true, ["fig-alt"] = true }
local known_spans = { verdict = true, supported = true, refuted = true, undecided = true,
                      notrun = true, smallcaps = true, underline = true, mark = true }

local function check_raw(element)
  if not element.text:match("^%s*<!%-%-") then
    problem(element.text, "raw " .. element.format .. " would be lost in the other format: " .. element.text)
  end
  return {}
end

local function check_classes(element, known)
  for _, class in ipairs(element.classes) do
    if not known[class] and not class:match("^callout%-") then
      problem(class, "the report does not know the class '." .. class .. "' here")
    end
  end
end

return {
  RawBlock = check_raw,
  RawInline = check_raw,
  Div = function(div)
    check_classes(div, known_divs)
    for name in pairs(div.attributes) do
      if not known_attributes[name] then
        problem(name, "the report does not know the attribute '" .. name .. "' here")
      end
    end
    for class in pairs(callouts) do
      if div.classes:includes("callout-" .. class) then return nil end
    end
    for _, class in ipairs(div.classes) do
      if class:match("^callout%-") then problem(class, "there is no callout called '" .. class .. "'") end
    end
  end,
  Span = function(span)
    check_classes(span, known_spans)
  end,
}
